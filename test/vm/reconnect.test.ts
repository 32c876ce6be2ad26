import { describe, expect, test } from 'vitest';
import { blockdev, CHECKSUMS, make, noGuest, world } from './world.ts';

/** Rounds of new files, each synced; what is in them follows from their names. */
const rounds = (from: number, to: number) => `
  for round in $(seq ${from} ${to}); do
    seq $round 1 20000 >/srv/$round
    sync
    echo round $round
  done`;

describe.skipIf(noGuest)('a daemon killed and started again under a Linux guest', () => {
  test('a disk of QEMU with reconnect-delay waits: no error, and the file system is clean', async ({
    signal,
  }) => {
    await using it = await world(['disk:512M'], signal);
    await using guest = await it.guest({
      devices: blockdev(`server.type=unix,server.path=${it.socket}`, 'disk'),
    });
    await guest.succeed(make('/dev/vda'));
    const load = guest.succeed(rounds(1, 12));
    for (const round of [3, 7]) {
      await guest.seen(new RegExp(`^round ${round}$`));
      await it.kill();
      await it.start();
    }
    await load;
    expect(await guest.succeed('dmesg')).not.toMatch(/I\/O error|EXT4-fs (error|warning)/);
    const written = await guest.succeed(CHECKSUMS);
    await guest.succeed('umount /srv');
    await guest.succeed('e2fsck -f -n /dev/vda; mount -t ext4 /dev/vda /srv');
    expect(await guest.succeed(CHECKSUMS)).toBe(written);
    await guest.powerOff();
    expect(it.errors).toEqual([]);
  });
});
