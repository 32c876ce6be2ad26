import { describe, expect, test } from 'vitest';
import type { Guest } from '../../scripts/vm/guest.ts';
import { CHECKSUMS, check, drive, FILL, make, noGuest, type World, world } from './world.ts';

const objectsOf = async (it: World, name: string): Promise<number> =>
  JSON.parse(await it.collie('vdi', 'info', name, '--json')).objects;

/** Fills the file system that is mounted, and trims what one of its files took. */
async function fill(it: World, guest: Guest, name: string): Promise<void> {
  await guest.succeed(FILL);
  const before = await objectsOf(it, name);
  await guest.succeed('rm /srv/spare; sync; fstrim /srv');
  expect(await objectsOf(it, name)).toBeLessThan(before);
}

/** As a backup does it: nothing is under way in the file system while the snapshot is taken. */
async function snapshot(it: World, guest: Guest, name: string): Promise<void> {
  await guest.succeed('fsfreeze --freeze /srv');
  await it.collie('vdi', 'snapshot', '-s', 'frozen', name);
  await guest.succeed('fsfreeze --unfreeze /srv');
}

/**
 * Removes, adds and overwrites in place, with zeroes too: they hide what the snapshot holds. The last
 * few go to the journal alone, and a kill that follows finds them there.
 */
const CHANGE = `
  rm -r /srv/small
  cp -a /sbin /srv/later
  dd if=/bin/busybox of=/srv/large conv=notrunc 2>/dev/null
  dd if=/dev/zero of=/srv/large bs=4k seek=600 count=300 conv=notrunc 2>/dev/null
  sync
  dd if=/dev/zero of=/srv/large bs=4k seek=500 count=2 conv=notrunc,fsync 2>/dev/null`;

describe.skipIf(noGuest)('file systems of a Linux guest', () => {
  test('what it synced to a virtio disk, and its snapshot, are there after kill -9 of daemon and guest', async ({
    signal,
  }) => {
    await using it = await world(['disk:512M'], signal);
    await using first = await it.guest({
      devices: drive(`127.0.0.1:${it.port}:exportname=disk`),
    });
    await first.succeed(make('/dev/vda'));
    await fill(it, first, 'disk');
    const frozen = await first.succeed(CHECKSUMS);
    await snapshot(it, first, 'disk');
    await first.succeed(CHANGE);
    const written = await first.succeed(CHECKSUMS);
    await it.stop('SIGKILL');
    await first[Symbol.asyncDispose]();

    await it.start();
    const disks = ['disk', 'disk@frozen,readonly=on'];
    await using second = await it.guest({
      devices: disks.flatMap((disk) => drive(`unix:${it.socket}:exportname=${disk}`)),
    });
    await second.succeed(check('/dev/vda'));
    await second.succeed('mount -t ext4 /dev/vda /srv');
    expect(await second.succeed(CHECKSUMS)).toBe(written);
    await second.succeed('umount /srv; e2fsck -f -n /dev/vdb; mount -t ext4 -o ro /dev/vdb /srv');
    expect(await second.succeed(CHECKSUMS)).toBe(frozen);
    await second.powerOff();
    expect(it.errors).toEqual([]);
  });

  test('what nbd-client wrote, with one connection or two, and its snapshots survive kill -9 of the daemon', async ({
    signal,
  }) => {
    await using it = await world(['disk1:256M', 'disk2:256M'], signal);
    await using guest = await it.guest({ devices: [] });
    // In sectors of 512 bytes, as nbd-client has it if it is not told: parts of our blocks change.
    const attach = (name: string, connections: number) =>
      guest.succeed(`nbd-client 10.0.2.2 ${it.port} -N ${name} -C ${connections} /dev/nbd0`);
    const detach = () => guest.succeed('umount /srv; nbd-client -d /dev/nbd0');
    const sums = new Map<string, string>();
    for (const connections of [1, 2]) {
      const name = `disk${connections}`;
      await attach(name, connections);
      const { clients } = JSON.parse(await it.collie('vdi', 'info', name, '--json'));
      expect(clients).toHaveLength(connections);
      await guest.succeed(make('/dev/nbd0', 1024 * connections));
      await fill(it, guest, name);
      sums.set(`${name}@frozen`, await guest.succeed(CHECKSUMS));
      await snapshot(it, guest, name);
      await guest.succeed(CHANGE);
      sums.set(name, await guest.succeed(CHECKSUMS));
      await detach();
    }
    await it.stop('SIGKILL');

    await it.start();
    for (const [name, written] of sums) {
      await attach(name, 2);
      await guest.succeed('e2fsck -f -n /dev/nbd0');
      await guest.succeed('mount -t ext4 -o ro /dev/nbd0 /srv');
      expect(await guest.succeed(CHECKSUMS)).toBe(written);
      await detach();
    }
    await guest.powerOff();
    expect(it.errors).toEqual([]);
  });
});
