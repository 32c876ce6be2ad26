import { expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import { stillClock } from '../crash/disk-world.ts';

const made = async () => undefined;

/** A directory, of which swaps fail once so many were made. */
async function fresh() {
  const coordinator = await openLocalCoordinator({
    disk: new SimDisk({ directories: ['/store'] }),
    directory: '/store',
    clusterId: new Uint8Array(16),
    log: silentLog,
    create: true,
  });
  const swaps = { keys: [] as number[], left: Number.POSITIVE_INFINITY };
  const failing: Coordinator = {
    get: (key, call) => coordinator.get(key, call),
    list: (prefix, call) => coordinator.list(prefix, call),
    watch: (prefix, after, call) => coordinator.watch(prefix, after, call),
    lease: (key, value, ttlMs, call) => coordinator.lease(key, value, ttlMs, call),
    swap: async (changes, call) => {
      if (swaps.left === 0) throw new SheepError('ERR_NO_SPACE', 'the disk is full');
      swaps.left -= 1;
      swaps.keys.push(changes.length);
      return coordinator.swap(changes, call);
    },
    [Symbol.asyncDispose]: () => coordinator[Symbol.asyncDispose](),
  };
  return { directory: new VdiDirectory(failing, stillClock), coordinator, swaps };
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

const MANY = 60;

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
  expect(await directory.arrivals.arrive(vids)).toMatchObject([{ vid: old.vid }]);
  await expectAll(directory, vids);
  expect((await directory.deletions()).map(({ vid }) => vid)).toEqual([old.vid]);
  expect(Math.max(...swaps.keys)).toBeLessThanOrEqual(128);
  expect(await directory.arrivals.finish()).toEqual([]);
});

test('rules as long as can be are more swaps, and none too large', async () => {
  const { directory, swaps } = await fresh();
  const allow = Array.from({ length: 64 }, (_, nth) => `psk:${`${nth}`.padStart(250, 'x')}`);
  const vids: number[] = [];
  for (let nth = 0; nth < MANY; nth += 1) {
    vids.push((await directory.arrivals.begin({ ...arriving(`vm${nth}`), allow }, 0)).vid);
  }
  const before = swaps.keys.length;
  await directory.arrivals.arrive(vids);
  expect(swaps.keys.length - before).toBeGreaterThan(3);
  expect(await directory.list()).toHaveLength(MANY);
});

test('once it is decided a stop is finished by the next start, and nothing can be given up', async () => {
  for (const left of [1, 2, 3]) {
    const { directory, coordinator, swaps } = await fresh();
    const vids = await begin(directory, MANY);
    swaps.left = left;
    await expect(directory.arrivals.arrive(vids)).rejects.toMatchObject({
      code: 'ERR_NO_SPACE',
      message: expect.stringMatching(/^what was loaded is whole, .* with the next load or start: /),
    });
    swaps.left = Number.POSITIVE_INFINITY;
    expect(await directory.arrivals.abandon(vids)).toEqual([]);
    const next = new VdiDirectory(coordinator, stillClock);
    await next.abandonUnfinished();
    await expectAll(next, vids);
    expect(await next.deletions()).toEqual([]);
  }
});

test('what is decided and has no name yet leaves it to nobody', async () => {
  const { directory, swaps } = await fresh();
  await directory.create({ name: 'vm9', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, MANY);
  swaps.left = 1;
  await expect(directory.arrivals.arrive(vids)).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  swaps.left = Number.POSITIVE_INFINITY;
  const make = (name: string) => directory.create({ name, sizeBytes: MiB, objectBytes: MiB }, made);
  await expect(make('vm5')).rejects.toMatchObject({ code: 'ERR_BUSY' });
  const taking = directory.snapshot('vm9', 'one', async (_, commit) => void (await commit()));
  await expect(taking).rejects.toMatchObject({ code: 'ERR_BUSY' });
  await make('other');
  expect(await directory.arrivals.finish()).toMatchObject([{ name: 'vm9' }]);
  await directory.delete('other');
  await expectAll(directory, vids);
});

test('before it is decided a stop leaves nothing but what is to be removed', async () => {
  const { directory, coordinator, swaps } = await fresh();
  const vids = await begin(directory, 3);
  swaps.left = 0;
  await expect(directory.arrivals.arrive(vids)).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  swaps.left = Number.POSITIVE_INFINITY;
  const next = new VdiDirectory(coordinator, stillClock);
  await next.abandonUnfinished();
  expect([...(await next.list()), ...(await next.snapshots())]).toEqual([]);
  expect((await next.deletions()).map(({ vid }) => vid)).toEqual(vids);
});

test('an arrival of none is none', async () => {
  const { directory, coordinator, swaps } = await fresh();
  expect(await directory.arrivals.arrive([])).toEqual([]);
  expect(swaps.keys).toEqual([]);
  await new VdiDirectory(coordinator, stillClock).abandonUnfinished();
});

test('none arrives if a tag was given to another meanwhile', async () => {
  const { directory } = await fresh();
  await directory.create({ name: 'vm1', sizeBytes: MiB, objectBytes: MiB }, made);
  const vids = await begin(directory, 3);
  await directory.snapshot('vm1', 'one', async (_child, commit) => void (await commit()));
  await expect(directory.arrivals.arrive(vids)).rejects.toMatchObject({ code: 'ERR_EXISTS' });
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
  await directory.arrivals.arrive([parent.vid, child.vid]);
  expect(await directory.info('vm')).toMatchObject({ shrunkFromBytes: 0, sizeBytes: MiB });
});
