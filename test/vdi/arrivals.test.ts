import { expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import { LOG_NAME, openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import { faultyDisk } from '../cluster/faulty-disk.ts';
import { scratch } from '../cluster/scratch.ts';
import { stillClock } from '../crash/disk-world.ts';
import { failingCoordinator, type Swaps } from './failing-coordinator.ts';

const made = async () => undefined;

/** A directory, of which swaps fail when the test wants it. */
async function fresh(
  disk: Disk = new SimDisk({ directories: ['/store'] }),
  directory: string = '/store',
) {
  const inner = await openLocalCoordinator({
    ...{ disk, directory },
    clusterId: new Uint8Array(16),
    log: silentLog,
    create: true,
  });
  const { coordinator, swaps } = failingCoordinator(inner);
  return { directory: new VdiDirectory(coordinator, stillClock), coordinator, swaps };
}

const arriving = (name: string, tag = '') => ({
  ...{ name, tag, sizeBytes: 2 * MiB, objectBytes: MiB, createdMs: 77 },
  allow: ['psk:bob', 'unix'],
});

/** VDIs with a snapshot each, begun. */
async function begin({ arrivals }: VdiDirectory, vdis: number): Promise<number[]> {
  const vids: number[] = [];
  for (let nth = 0; nth < vdis; nth += 1) {
    const snapshot = await arrivals.begin(arriving(`vm${nth}`, 'one'), 0);
    const vdi = await arrivals.begin(arriving(`vm${nth}`), snapshot.vid);
    vids.push(snapshot.vid, vdi.vid);
  }
  return vids;
}

/** Decided and named. @returns what they have replaced, in the order in which that was told */
async function arrive({ arrivals }: VdiDirectory, vids: readonly number[]) {
  const replaced: VolumeRecord[] = [];
  await arrivals.decide(vids);
  await arrivals.finish(async (gone) => void replaced.push(...gone));
  return replaced;
}

/** Decided, and so many swaps of the naming made; then the disk is full, until it is not any more. */
async function arriveUntilFull(
  directory: VdiDirectory,
  vids: readonly number[],
  swaps: Swaps,
  made: number,
): Promise<VolumeRecord[]> {
  const replaced: VolumeRecord[] = [];
  await directory.arrivals.decide(vids);
  swaps.left = made;
  const naming = directory.arrivals.finish(async (gone) => void replaced.push(...gone));
  await expect(naming).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  swaps.left = Number.POSITIVE_INFINITY;
  return replaced;
}

const MANY = 60;
/** The swaps that so many take: 40 at once, and the key. */
const NAMINGS = 3;

async function expectAll(directory: VdiDirectory, vids: readonly number[]): Promise<void> {
  const [list, snapshots] = [await directory.list(), await directory.snapshots()];
  expect([...list, ...snapshots].map(({ vid }) => vid).sort((a, b) => a - b)).toEqual(vids);
  for (const record of list) {
    const { name } = record;
    expect(record).toMatchObject({ createdMs: 77, allow: ['psk:bob', 'unix'], sizeBytes: 2 * MiB });
    const snapshot = await directory.snapshotInfo({ name, snapshot: 'one' });
    expect(record).toMatchObject({ parent: snapshot.vid, family: snapshot.vid });
  }
}

test('any number arrives, whatever a swap takes, and replaces what has its name', async () => {
  const { directory, swaps } = await fresh();
  const old = await directory.create({ name: 'vm7', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, MANY);
  expect(await directory.list()).toEqual([old]);
  expect(await arrive(directory, vids)).toMatchObject([{ vid: old.vid, state: 'deleting' }]);
  await expectAll(directory, vids);
  expect((await directory.deletions()).map(({ vid }) => vid)).toEqual([old.vid]);
  expect(Math.max(...swaps.keys)).toBeLessThanOrEqual(128);
});

test('names are given out of the space that the log keeps back for a full disk', async () => {
  const medium = { isFull: false };
  await using store = await scratch();
  const disk = faultyDisk(nodeDisk(), (operation) => {
    if (medium.isFull && operation === 'zero') throw new SheepError('ERR_NO_SPACE', 'full');
  });
  const { directory, coordinator } = await fresh(disk, store.path);
  await using _coordinator = coordinator;
  const vids = await begin(directory, MANY);
  await using log = await disk.open(`${store.path}/${LOG_NAME}`);
  const sizeBytes = await log.size();
  medium.isFull = true;
  await arrive(directory, vids);
  expect(await log.size()).toBe(sizeBytes);
  await expectAll(directory, vids);
});

test('rules as long as can be are more swaps, and none too large', async () => {
  const { directory, swaps } = await fresh();
  const allow = Array.from({ length: 64 }, (_, nth) => `psk:${`${nth}`.padStart(250, 'x')}`);
  const vids: number[] = [];
  for (let nth = 0; nth < MANY; nth += 1) {
    vids.push((await directory.arrivals.begin({ ...arriving(`vm${nth}`), allow }, 0)).vid);
  }
  const before = swaps.keys.length;
  await arrive(directory, vids);
  expect(swaps.keys.length - before).toBeGreaterThan(3);
  expect(await directory.list()).toHaveLength(MANY);
});

test('once it is decided a stop is finished by the next start, and nothing can be given up', async () => {
  for (let done = 0; done <= NAMINGS; done += 1) {
    const { directory, coordinator, swaps } = await fresh();
    const vids = await begin(directory, MANY);
    await arriveUntilFull(directory, vids, swaps, done);
    expect(await directory.arrivals.abandon(vids)).toEqual([]);
    const next = new VdiDirectory(coordinator, stillClock);
    await next.abandonUnfinished();
    await expectAll(next, vids);
    expect(await next.deletions()).toEqual([]);
    expect(await next.arriving()).toBeUndefined();
  }
});

test('a swap that fails is made later, and what was replaced before it was told', async () => {
  const { directory, swaps } = await fresh();
  const early = await directory.create({ name: 'vm3', sizeBytes: MiB, objectBytes: MiB }, made);
  const late = await directory.create({ name: 'vm59', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, MANY);
  expect(await arriveUntilFull(directory, vids, swaps, 1)).toMatchObject([{ vid: early.vid }]);
  const replaced: VolumeRecord[] = [];
  await directory.arrivals.finish(async (gone) => void replaced.push(...gone));
  expect(replaced).toMatchObject([{ vid: late.vid }]);
  await expectAll(directory, vids);
});

test('what had its name and is deleted and forgotten does not keep the rest from theirs', async () => {
  for (const [vdis, swapsMade] of [
    [MANY, 1],
    [1, 1],
  ] as const) {
    const { directory, coordinator, swaps } = await fresh();
    const vids = await begin(directory, vdis);
    await arriveUntilFull(directory, vids, swaps, swapsMade);
    const gone = await directory.delete('vm0');
    await directory.forget(gone.vid);
    const next = new VdiDirectory(coordinator, stillClock);
    await next.abandonUnfinished();
    expect(await next.list()).toHaveLength(vdis - 1);
    expect(await next.snapshots()).toHaveLength(vdis);
    expect(await next.arriving()).toBeUndefined();
    expect(await next.arrivals.abandon([gone.vid])).toEqual([]);
  }
});

test('a start that cannot finish it says what it is about, and a later one does', async () => {
  const { directory, coordinator, swaps } = await fresh();
  const old = await directory.create({ name: 'vm59', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, MANY);
  await arriveUntilFull(directory, vids, swaps, 0);
  swaps.left = 1;
  const next = new VdiDirectory(coordinator, stillClock);
  await expect(next.abandonUnfinished()).rejects.toMatchObject({
    code: 'ERR_NO_SPACE',
    message:
      'what was loaded from a snapshot of the cluster before the last stop is whole, but cannot ' +
      'get its names: the disk is full. Nobody is served before it has them: see to the disk of ' +
      'the store, then start sheep again',
  });
  swaps.left = Number.POSITIVE_INFINITY;
  await next.abandonUnfinished();
  await expectAll(next, vids);
  expect(await next.deletions()).toMatchObject([{ vid: old.vid, state: 'deleting' }]);
});

test('before it is decided a stop leaves nothing but what is to be removed', async () => {
  const { directory, coordinator, swaps } = await fresh();
  const vids = await begin(directory, 3);
  swaps.left = 0;
  await expect(directory.arrivals.decide(vids)).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  swaps.left = Number.POSITIVE_INFINITY;
  const next = new VdiDirectory(coordinator, stillClock);
  await next.abandonUnfinished();
  expect([...(await next.list()), ...(await next.snapshots())]).toEqual([]);
  expect((await next.deletions()).map(({ vid }) => vid)).toEqual(vids);
});

test('an arrival of none is none', async () => {
  const { directory, coordinator, swaps } = await fresh();
  expect(await arrive(directory, [])).toEqual([]);
  expect(swaps.keys).toEqual([]);
  await new VdiDirectory(coordinator, stillClock).abandonUnfinished();
});

test('none arrives if a tag was given to another meanwhile', async () => {
  const { directory } = await fresh();
  await directory.create({ name: 'vm1', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, 3);
  await directory.snapshot('vm1', 'one', async (_child, commit) => void (await commit()));
  await expect(directory.arrivals.decide(vids)).rejects.toMatchObject({ code: 'ERR_EXISTS' });
  expect((await directory.arrivals.abandon(vids)).map(({ vid }) => vid)).toEqual(vids);
  expect((await directory.list()).map(({ name }) => name)).toEqual(['vm1']);
});

test('what nothing can be is not begun', async () => {
  const { directory } = await fresh();
  const { arrivals } = directory;
  for (const wrong of [{ tag: '17' }, { sizeBytes: 5 }, { objectBytes: 5 }, { allow: ['x'] }]) {
    const begun = arrivals.begin({ ...arriving('vm'), ...wrong }, 0);
    await expect(begun).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
  }
  await expect(arrivals.begin(arriving('vm'), 99)).rejects.toMatchObject({ code: 'ERR_BUSY' });
  expect(await directory.all()).toEqual([]);
});

test('a smaller one than its parent has something to clear behind its end', async () => {
  const { directory } = await fresh();
  const parent = await directory.arrivals.begin(arriving('vm', 'one'), 0);
  const small = { ...arriving('vm'), sizeBytes: MiB };
  const child = await directory.arrivals.begin(small, parent.vid);
  expect(child.shrunkFromBytes).toBe(2 * MiB);
  await arrive(directory, [parent.vid, child.vid]);
  expect(await directory.info('vm')).toMatchObject({ shrunkFromBytes: 0, sizeBytes: MiB });
});
