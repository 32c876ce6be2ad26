import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Guest } from '../../scripts/vm/guest.ts';
import { succeed } from '../app/daemon.ts';
import { blockdev, noGuest, tool, uri, type World, world } from './world.ts';

/** A root file system in a file, from a directory; it needs no root to be made. */
async function rootImage(it: World): Promise<string> {
  const image = join(it.path, 'image');
  await succeed(tool('mke2fs'), ['-q', '-t', 'ext4', '-d', it.files.root, image, '64M']);
  return image;
}

const convert = (it: World, image: string, name: string) => {
  const formats = ['-f', 'raw', '-O', 'raw', '-t', 'writethrough'];
  return succeed('qemu-img', ['convert', '-n', ...formats, image, uri(it, name)]);
};
/** @throws Error where one byte differs */
const compare = (it: World, image: string, name: string) =>
  succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, uri(it, name)]);

const boot = (it: World, name: string): Promise<Guest> => {
  const server = `server.type=inet,server.host=127.0.0.1,server.port=${it.port}`;
  return it.guest({ devices: blockdev(server, name), root: '/dev/vda' });
};

describe.skipIf(noGuest)('a root file system in a VDI', () => {
  test('clones of its snapshot boot and go their own ways, and the snapshot stays as it was', async ({
    signal,
  }) => {
    await using it = await world(['base:64M'], signal);
    const image = await rootImage(it);
    await convert(it, image, 'base');
    await compare(it, image, 'base');
    await it.collie('vdi', 'snapshot', '-s', 'golden', 'base');
    for (const name of ['one', 'two']) {
      await it.collie('vdi', 'clone', '-s', 'golden', 'base', name);
      await compare(it, image, name);
    }
    await using one = await boot(it, 'one');
    expect(await one.succeed('cat /proc/mounts')).toMatch(/^\/dev\/vda \/ ext4 rw/m);
    await one.succeed('echo one >/srv/name; cp -r /lib /srv/lib; sync');
    // Under a guest that runs: what it boots from later is a disk whose plug was pulled.
    await it.collie('vdi', 'snapshot', '-s', 'running', 'one');
    await one.succeed('echo later >/srv/name; rm -r /srv/lib; sync');
    await one.powerOff();

    await using two = await boot(it, 'two');
    await two.succeed('[ ! -e /srv/name ]; echo two >/srv/name');
    await two.powerOff();

    await it.collie('vdi', 'clone', '-s', 'running', 'one', 'three');
    await using three = await boot(it, 'three');
    expect(
      await three.succeed(
        'cat /srv/name; for file in $(find /lib -type f); do cmp $file /srv$file; done',
      ),
    ).toBe('one\n');
    await three.powerOff();

    await compare(it, image, 'base@golden');
    await compare(it, image, 'base');
    expect(it.errors).toEqual([]);
  });
});
