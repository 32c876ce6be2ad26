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

  test.for([1, 2])(
    'nbd-client with %i connections: the same after kill -9 of the daemon',
    async (connections, { signal }) => {
      await using it = await world(['disk:512M'], signal);
      await using guest = await it.guest({ devices: [] });
      const attach = `nbd-client 10.0.2.2 ${it.port} -N disk -b 4096 -C ${connections} /dev/nbd0`;
      await guest.succeed(attach);
      const { clients } = JSON.parse(await it.collie('vdi', 'info', 'disk', '--json'));
      expect(clients).toHaveLength(connections);
      await guest.succeed(make('/dev/nbd0'));
      await guest.succeed(FILL);
      const before = await objectsOf(it, 'disk');
      await guest.succeed('rm /srv/spare; sync; fstrim /srv');
      expect(await objectsOf(it, 'disk')).toBeLessThanOrEqual(before - 2);
      const written = await guest.succeed(CHECKSUMS);
      await guest.succeed('umount /srv; nbd-client -d /dev/nbd0');
      await it.kill();

      await it.start();
      await guest.succeed(attach);
      await guest.succeed(check('/dev/nbd0'));
      await guest.succeed('mount -t ext4 /dev/nbd0 /srv');
      expect(await guest.succeed(CHECKSUMS)).toBe(written);
      await guest.powerOff();
      expect(it.errors).toEqual([]);
    },
  );
});
