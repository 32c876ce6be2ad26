import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { guestFiles } from '../../scripts/vm/guest-files.ts';
import { succeed } from '../app/daemon.ts';
import { blockdev, noGuest, uri, type World, world } from './world.ts';

const compare = (it: World, image: string, name: string) =>
  succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, uri(it, name)]);

describe.skipIf(noGuest)('a root file system', () => {
  test('converted into a VDI boots, and is written to', async ({ signal }) => {
    await using it = await world(['base:64M'], signal);
    const image = join(it.path, 'image');
    await succeed('mke2fs', ['-q', '-t', 'ext4', '-d', guestFiles()?.root ?? '', image, '64M']);
    const convert = ['convert', '-n', '-f', 'raw', '-O', 'raw', '-t', 'writethrough'];
    await succeed('qemu-img', [...convert, image, uri(it, 'base')]);
    await compare(it, image, 'base');
    await using guest = await it.guest({
      devices: blockdev(`server.type=inet,server.host=127.0.0.1,server.port=${it.port}`, 'base'),
      root: '/dev/vda',
    });
    expect(await guest.succeed('cat /proc/mounts')).toMatch(/^\/dev\/vda \/ ext4 rw/m);
    await guest.succeed('echo 1 >/srv/mark');
    await guest.powerOff();
    expect(it.errors).toEqual([]);
  });
});
