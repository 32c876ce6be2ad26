import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { run, succeed } from '../app/daemon.ts';
import { blockdev, check, make, noGuest, tool, type World, world } from './world.ts';

/** Rounds of new files, what is in them follows from their names; told only if the sync succeeds. */
const rounds = (from: number, to: number) => `
  for round in $(seq ${from} ${to}); do
    seq $round 1 20000 | dd of=/srv/$round bs=64k conv=fsync 2>&1
    echo round $round
  done`;

/** What rounds 1 to `last` wrote is there. */
const intact = (last: number) =>
  `for round in $(seq 1 ${last}); do seq $round 1 20000 | cmp - /srv/$round; done`;

/** The snapshot taken after this round holds a file system as a power cut leaves it. */
async function checkSnapshot(it: World, round: number): Promise<void> {
  const image = join(it.path, `round${round}`);
  await it.collie('vdi', 'export', `disk@round${round}`, image);
  expect((await run(tool('e2fsck'), ['-p', image])).status).toBeLessThanOrEqual(1);
  await succeed(tool('e2fsck'), ['-f', '-n', image]);
  const written = await succeed('seq', [`${round}`, '1', '20000']);
  expect(await succeed(tool('debugfs'), ['-R', `cat /${round}`, image])).toBe(written);
}

describe.skipIf(noGuest)('a daemon stopped and started again under a Linux guest', () => {
  test('a disk of QEMU with reconnect-delay waits: no error, and the file system is clean, in snapshots too', async ({
    signal,
  }) => {
    await using it = await world(['disk:256M'], signal);
    await using guest = await it.guest({
      devices: blockdev(`server.type=unix,server.path=${it.socket}`, 'disk'),
    });
    await guest.succeed(make('/dev/vda'));
    const stops = [
      { round: 3, signal: 'SIGKILL', status: null },
      { round: 7, signal: 'SIGTERM', status: 0 },
    ] as const;
    const load = guest.succeed(rounds(1, 12));
    for (const { round, signal, status } of stops) {
      await guest.seen(new RegExp(`^round ${round}$`));
      await it.collie('vdi', 'snapshot', '-s', `round${round}`, 'disk');
      expect(await it.stop(signal)).toBe(status);
      await it.start();
    }
    await load;
    expect(await guest.succeed('dmesg')).not.toMatch(/I\/O error|EXT4-fs (error|warning)/);
    await guest.succeed('umount /srv');
    await guest.succeed('e2fsck -f -n /dev/vda; mount -t ext4 /dev/vda /srv');
    await guest.succeed(intact(12));
    await guest.powerOff();
    for (const { round } of stops) await checkSnapshot(it, round);
    expect(it.errors).toEqual([]);
  });

  // nbd-client -persist does not reconnect (its issue 93): the kernel tells it of no failure.
  test('the client of the kernel fails, and has all that it synced when it is attached again', async ({
    signal,
  }) => {
    await using it = await world(['disk:512M'], signal);
    await using guest = await it.guest({ devices: [] });
    const attach = `nbd-client 10.0.2.2 ${it.port} -N disk -b 4096 -C 2 -persist /dev/nbd0`;
    await guest.succeed(attach);
    await guest.succeed(make('/dev/nbd0'));
    const load = guest.run(rounds(1, 12));
    await guest.seen(/^round 5$/);
    await it.stop('SIGKILL');
    await it.start();
    const { out } = await load;
    const synced = Math.max(
      ...[...out.matchAll(/^round (\d+)$/gm)].map(([, round]) => Number(round)),
    );
    await guest.succeed('umount /srv; nbd-client -d /dev/nbd0');
    await guest.succeed(attach);
    await guest.succeed(check('/dev/nbd0'));
    await guest.succeed('mount -t ext4 /dev/nbd0 /srv');
    await guest.succeed(intact(synced));
    await guest.powerOff();
    expect(it.errors).toEqual([]);
  });
});
