import { appendFile, stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { encodeSnap, type Snap } from '../../src/farm/snapshots/snap-contents.ts';
import { encodeSnapLine } from '../../src/farm/snapshots/snap-log-format.ts';
import { openSnapshotStore, type SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { beginWriting } from '../../src/farm/snapshots/writer.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { nodeCpuPool } from '../../src/host/node-cpu-pool.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { nodeRandom } from '../../src/host/node-random.ts';
import { World } from './collie-world.ts';

/**
 * Times in a store are what whoever wrote it says. The calendar of computers ends 8.64e15 ms after
 * 1970, and a number may say more: what is of such a time is shown and used as everything else, and
 * what is of no time at all is named as damage.
 */
const LAST_OF_CALENDAR = 8.64e15;
const BEYOND = Number.MAX_SAFE_INTEGER;
/** How it is shown: no date is. */
const SHOWN = `${BEYOND} ms`;

let world: World;
beforeAll(async () => {
  world = await World.open();
  const line = 'set -e; head -c 1M /dev/urandom > noise; $collie vdi import noise disk';
  expect(await world.shell(`${line}; $collie vdi snapshot -s one disk`)).toMatchObject({
    status: 0,
  });
});
afterAll(() => world[Symbol.asyncDispose]());

async function writing<T>(directory: string, act: (store: SnapshotStore) => Promise<T>) {
  await using pool = nodeCpuPool(1);
  await using store = await openSnapshotStore({
    ...{ disk: nodeDisk(), directory, clock: nodeClock(), random: nodeRandom(), log: silentLog },
    ...{ pool, holder: { host: 'forger', pid: process.pid } },
  });
  return await act(store);
}

/** Another snap, which says of the store's first, sound one what `change` makes of it. */
function forge(directory: string, tag: string, change: (snap: Snap) => object): Promise<string> {
  return writing(directory, async (store) => {
    await using writer = await beginWriting(store);
    const [sound] = store.snaps('user').toSorted((one, other) => one.timeMs - other.timeMs);
    const snap = await store.readSnap(sound!.name);
    // JSON, so that it can also say what no snap does.
    const forged = { ...JSON.parse(new TextDecoder().decode(encodeSnap(snap))), ...change(snap) };
    const name = await writer.put('snap', Buffer.from(JSON.stringify({ ...forged, tag })));
    await writer.barrier();
    const timeMs =
      forged.timeMs > 0 && Number.isSafeInteger(forged.timeMs) ? forged.timeMs : BEYOND;
    await store.logs.user.append({ kind: 'snap', epoch: 0, timeMs, name, tag });
    return store.format(name);
  });
}

/** A disk as JSON has it, with all its times `ms`. */
const diskAt = ({ disks }: Snap, ms: number, nth = 0) => {
  const { root, ...disk } = disks[nth]!;
  return { ...disk, snapshotMs: ms, createdMs: ms, root: Buffer.from(root).toString('hex') };
};
const allAt = (ms: number) => (snap: Snap) => ({
  timeMs: ms,
  disks: snap.disks.map((_, nth) => diskAt(snap, ms, nth)),
});

describe('a backup', () => {
  test('of a time beyond the calendar is listed, shown, judged by rules and restored', async () => {
    const store = `${world.path}/beyond`;
    await world.json('backup', 'create', 'disk@one', '--to', store, '--tag', 'sound');
    await forge(store, 'odd', allAt(BEYOND));
    await forge(store, 'last', allAt(LAST_OF_CALENDAR));
    const listed = await world.collie('backup', 'list', store);
    expect(listed).toMatchObject({ status: 0, err: '' });
    expect(listed.out.trimEnd().split('\n').slice(1)).toEqual([
      expect.stringMatching(/ disk@one .* sound$/),
      expect.stringMatching(/ \+275760-09-13 00:00:00 .* last$/),
      expect.stringMatching(new RegExp(` ${SHOWN} +disk@one +${SHOWN} .* odd$`)),
    ]);
    const shown = await world.collie('backup', 'show', store, 'odd');
    expect(shown).toMatchObject({
      status: 0,
      out: expect.stringContaining(`made:        ${SHOWN}`),
    });
    const rules = ['--keep-daily', '1', '--keep-weekly', '1', '--keep-monthly', '1'];
    const pruned = await world.collie('backup', 'prune', store, ...rules, '--dry-run');
    expect(pruned).toMatchObject({ status: 0, out: expect.stringContaining(SHOWN), err: '' });
    expect(await world.json('backup', 'verify', store)).toMatchObject({ findings: [] });
    await world.json('backup', 'restore', store, 'odd', 'again');
    await world.expectSame(`${world.path}/noise`, 'again');
    // The next one is made as if it were not there, and it can go.
    await world.json('backup', 'create', 'disk@one', '--to', store);
    await world.json('backup', 'delete', store, 'odd', '--grace', '0s');
    expect(await world.json('backup', 'verify', store)).toMatchObject({ findings: [] });
  });

  test.for([
    ['-1', -1],
    ['1e300', 1e300],
    ['0.5', 0.5],
    ['null', null],
  ] as const)('of the time %s is lost, and hides no other', async ([name, ms]) => {
    const store = `${world.path}/at${name}`;
    await world.json('backup', 'create', 'disk@one', '--to', store, '--tag', 'sound');
    for (const [tag, change] of [
      ['made', () => ({ timeMs: ms })],
      ['taken', (snap: Snap) => ({ disks: [{ ...diskAt(snap, 1), snapshotMs: ms }] })],
    ] as const) {
      const id = await forge(store, tag, change);
      const listed = await world.collie('backup', 'list', store);
      expect(listed).toMatchObject({ status: 1, err: '' });
      expect(listed.out).toMatch(/ disk@one .* sound\n/);
      expect(listed.out).toMatch(new RegExp(`\n${id.slice(0, 8)} .* is lost: .*does not say`));
      const shown = await world.collie('backup', 'show', store, tag);
      expect(shown).toMatchObject({ status: 1, err: expect.stringMatching(/is lost: /) });
    }
    const restored = await world.collie('backup', 'restore', store, 'sound', `at${name}`);
    expect(restored).toMatchObject({ status: 0 });
  });

  test('whose line has a time that no number can be is refused with its place', async () => {
    const store = `${world.path}/line`;
    await world.json('backup', 'create', 'disk@one', '--to', store);
    const { size } = await stat(`${store}/user_snap`);
    const line = await writing(store, async ({ storeId }) => {
      const name = new Uint8Array(32).fill(1);
      return encodeSnapLine({ kind: 'snap', epoch: 0, timeMs: 1, name, tag: 'x' }, storeId);
    });
    // The year 292277026, and checksums that fit it.
    const view = new DataView(line.buffer, line.byteOffset);
    view.setBigUint64(40, 2n ** 63n - 1n);
    view.setUint32(8, crc32(line.subarray(16)));
    view.setUint32(12, crc32(line.subarray(0, 12)));
    await appendFile(`${store}/user_snap`, line);
    const why = `${store}/user_snap: its line at byte ${size} cannot be read (time is above 2^53)`;
    for (const words of [['list'], ['verify'], ['prune', '--keep-last', '1']]) {
      const [verb = '', ...more] = words;
      const refused = await world.collie('backup', verb, store, ...more);
      expect(refused).toMatchObject({ status: 1, out: '', err: `collie: ${why}\n` });
    }
  });
});

describe('a snapshot of the cluster', () => {
  test('of a time beyond the calendar is listed, shown, checked and loaded', async () => {
    await world.json('cluster', 'snapshot', 'save', 'mon');
    await forge(`${world.path}/store/farm`, 'odd', allAt(BEYOND));
    const listed = await world.collie('cluster', 'snapshot', 'list');
    expect(listed).toMatchObject({ status: 0, err: '' });
    expect(listed.out).toMatch(new RegExp(`\nodd +${SHOWN} `));
    const shown = await world.collie('cluster', 'snapshot', 'show', 'odd');
    expect(shown).toMatchObject({ status: 0, err: '' });
    expect(shown.out).toMatch(new RegExp(`\ntaken: +${SHOWN}\n`));
    expect(shown.out).toMatch(new RegExp(`\ndisk .* ${SHOWN}\n`));
    expect(await world.collie('cluster', 'check')).toMatchObject({ status: 0, err: '' });
    await world.json('cluster', 'snapshot', 'load', 'odd', '--vdi', 'disk', '--as', 'old');
    const before = await world.collie('vdi', 'list');
    expect(before.out).toMatch(new RegExp(`\nold .* ${SHOWN} `));
    await world.expectSame(`${world.path}/noise`, 'old');
    // It is the newest that there is: what is saved next is saved beside it.
    await world.json('cluster', 'snapshot', 'save', 'tue');
    const vdis = await world.collie('vdi', 'list');
    await world.daemon.stop('SIGTERM');
    world.daemon = await world.it.start();
    expect(await world.collie('vdi', 'list')).toEqual(vdis);
    expect(await world.collie('cluster', 'check')).toMatchObject({ status: 0, err: '' });
    await world.json('cluster', 'snapshot', 'delete', 'odd');
    expect(await world.collie('cluster', 'check')).toMatchObject({ status: 0, err: '' });
  });
});
