import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Guest } from '../../scripts/vm/guest.ts';
import { run, succeed } from '../app/daemon.ts';
import { blockdev, noGuest, tool, uri, type World, world } from './world.ts';

const RAW = ['-f', 'raw', '-O', 'raw'];

const boot = (it: World, name: string): Promise<Guest> => {
  const server = `server.type=inet,server.host=127.0.0.1,server.port=${it.port}`;
  return it.guest({ devices: blockdev(server, name), root: '/dev/vda' });
};

/** The journal is replayed, and then nothing is amiss. */
async function expectClean(it: World, name: string): Promise<void> {
  const image = join(it.path, 'checked');
  await succeed('qemu-img', ['convert', ...RAW, uri(it, name), image]);
  // 1: it was changed, as by a mount.
  expect((await run(tool('e2fsck'), ['-p', image])).status).toBeLessThanOrEqual(1);
  await succeed(tool('e2fsck'), ['-f', '-n', image]);
}

describe.skipIf(noGuest)('a VM', () => {
  test('whose disk is lost boots again from a snapshot of the cluster that was saved while it ran, and from backups', async ({
    signal,
  }) => {
    await using it = await world(['root:64M', 'other:16M'], signal);
    const image = join(it.path, 'image');
    await succeed(tool('mke2fs'), ['-q', '-t', 'ext4', '-d', it.files.root, image, '64M']);
    await succeed('qemu-img', ['convert', '-n', ...RAW, image, uri(it, 'root')]);
    {
      await using guest = await boot(it, 'root');
      await guest.succeed('echo before >/srv/name; cp -r /lib /srv/lib; sync');
      // Something is always being written while it is saved.
      await guest.succeed(
        'while [ ! -e /srv/stop ]; do echo x >>/srv/log; sync; done >/dev/null 2>&1 &',
      );
      await it.collie('cluster', 'snapshot', 'save', 'running');
      await guest.succeed('touch /srv/stop; echo after >/srv/name; rm -r /srv/lib; sync');
      await guest.powerOff();
    }
    await it.collie('vdi', 'snapshot', '-s', 'first', 'root');
    const backups = join(it.path, 'backups');
    const create = async (tag: string): Promise<string> => {
      const made = await it.collie('--json', 'backup', 'create', `root@${tag}`, '--to', backups);
      return JSON.parse(made).id;
    };
    await create('first');
    await it.collie('vdi', 'delete', 'root');

    await it.collie('cluster', 'snapshot', 'load', 'running', '--vdi', 'root');
    await expectClean(it, 'root');
    await using again = await boot(it, 'root');
    expect(
      await again.succeed(
        'cat /srv/name; for file in $(find /lib -type f); do cmp $file /srv$file; done',
      ),
    ).toBe('before\n');
    await again.succeed('echo again >/srv/name; sync');
    await again.powerOff();

    await it.collie('vdi', 'snapshot', '-s', 'second', 'root');
    const second = await create('second');
    await it.collie('backup', 'verify', backups);
    await it.collie('backup', 'prune', backups, '--keep-last', '1');
    await it.collie('backup', 'restore', backups, second, 'restored');
    const compare = ['compare', '-f', 'raw', '-F', 'raw'];
    await succeed('qemu-img', [...compare, uri(it, 'root'), uri(it, 'restored')]);
    await it.collie('cluster', 'check');
    expect(it.errors).toEqual([]);
  });
});
