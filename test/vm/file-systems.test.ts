import { describe, expect, test } from 'vitest';
import { CHECKSUMS, check, drive, FILL, make, noGuest, type World, world } from './world.ts';

const objectsOf = async (it: World, name: string): Promise<number> =>
  JSON.parse(await it.collie('vdi', 'info', name, '--json')).objects;

describe.skipIf(noGuest)('file systems of a Linux guest', () => {
  test('what was synced to a virtio disk is there after kill -9 of daemon and guest; trims free it', async ({
    signal,
  }) => {
    await using it = await world(['disk:512M'], signal);
    await using first = await it.guest({
      devices: drive(`127.0.0.1:${it.port}:exportname=disk`),
    });
    await first.succeed(make('/dev/vda'));
    await first.succeed(FILL);
    const written = await first.succeed(CHECKSUMS);
    await it.kill();
    await first[Symbol.asyncDispose]();

    await it.start();
    await using second = await it.guest({
      devices: drive(`unix:${it.socket}:exportname=disk`),
    });
    await second.succeed(check('/dev/vda'));
    await second.succeed('mount -t ext4 /dev/vda /srv');
    expect(await second.succeed(CHECKSUMS)).toBe(written);
    const before = await objectsOf(it, 'disk');
    await second.succeed('rm /srv/spare; sync; fstrim /srv');
    expect(await objectsOf(it, 'disk')).toBeLessThanOrEqual(before - 2);
    await second.powerOff();
    expect(it.errors).toEqual([]);
  });

  test('what was written by nbd-client, with one connection or two, is there after kill -9 of the daemon', async ({
    signal,
  }) => {
    const connections = [1, 2];
    await using it = await world(['disk1:256M', 'disk2:256M'], signal);
    await using guest = await it.guest({ devices: [] });
    const attach = (count: number) =>
      `nbd-client 10.0.2.2 ${it.port} -N disk${count} -b 4096 -C ${count} /dev/nbd${count}`;
    const written: string[] = [];
    for (const count of connections) {
      await guest.succeed(attach(count));
      const { clients } = JSON.parse(await it.collie('vdi', 'info', `disk${count}`, '--json'));
      expect(clients).toHaveLength(count);
      await guest.succeed(make(`/dev/nbd${count}`));
      await guest.succeed(FILL);
      const before = await objectsOf(it, `disk${count}`);
      await guest.succeed('rm /srv/spare; sync; fstrim /srv');
      expect(await objectsOf(it, `disk${count}`)).toBeLessThanOrEqual(before - 2);
      written.push(await guest.succeed(CHECKSUMS));
      await guest.succeed(`umount /srv; nbd-client -d /dev/nbd${count}`);
    }
    await it.kill();

    await it.start();
    for (const count of connections) {
      await guest.succeed(attach(count));
      await guest.succeed(check(`/dev/nbd${count}`));
      await guest.succeed(`mount -t ext4 /dev/nbd${count} /srv`);
      expect(await guest.succeed(CHECKSUMS)).toBe(written.shift());
      await guest.succeed('umount /srv');
    }
    await guest.powerOff();
    expect(it.errors).toEqual([]);
  });
});
