import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { formatOid, KIND, type ObjectName, type Vid } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { leafName, rootName } from '../../src/vdi/inode-format.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import { ManualClock } from '../nbd/manual-clock.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import {
  type FamilyWorld,
  leaks,
  OBJECT_BLOCKS,
  OBJECT_BYTES,
  objectFiles,
  openWorld,
  STORE,
} from '../vdi/family-world.ts';
import { hooked } from '../vdi/stores.ts';

const DELETE = { dryRun: false };
const LEAF_OBJECTS = 16_384;
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 8_000, interval: 10 });

/** Asked before each call, `sources` among them. */
function asking(store: ObjectStore, ask: (call: string, name?: ObjectName) => void): ObjectStore {
  return {
    ...hooked(store, (operation, [name]) => ask(operation, name)),
    sources: (name) => {
      ask('sources', name);
      return store.sources(name);
    },
  };
}

async function withBase(disk: SimDisk, ask: Parameters<typeof asking>[1] = () => undefined) {
  const world = await openWorld(disk, (store) => asking(store, ask));
  const model = new FamilyModel();
  await create(world, model, 'base', 8 * OBJECT_BLOCKS);
  return { world, model };
}
const newDisk = () => new SimDisk({ directories: [STORE] });

/** Holds what there is, and lets go of what was held before. */
async function save({ volumes, directory }: FamilyWorld): Promise<VolumeRecord[]> {
  const before = new Set((await directory.held()).map(({ vid }) => vid));
  {
    using _frozen = await volumes.freezeAll({ wallMs: () => 1 });
  }
  await volumes.releaseHeld(({ vid }) => !before.has(vid));
  return (await directory.deletions()).filter(({ vid }) => before.has(vid));
}

const remove = async ({ volumes, deletions }: FamilyWorld, snapshot: string) =>
  deletions.finish(await volumes.delete('base', { ...DELETE, snapshot }));

describe.for([
  ['one object', () => 0],
  ['one of eight objects', (nth: number) => (nth % 8) * OBJECT_BLOCKS],
] as const)('saves between which a block of %s changes', ([, objectOf]) => {
  /** After so many, each of which leaves a ghost: its block is read for ever. */
  async function afterSaves(count: number, disk: SimDisk) {
    let calls = 0;
    const it = await withBase(disk, () => {
      calls += 1;
    });
    let last = 0;
    for (let nth = 0; nth < count; nth += 1) {
      const first = objectOf(nth) + (nth % OBJECT_BLOCKS);
      await write(it.world, it.model, 'base', { first, count: 1, value: nth + 1 });
      const released = await save(it.world);
      calls = 0;
      for (const record of released) await it.world.deletions.finish(record);
      last = calls;
    }
    expect((await it.world.directory.deletions()).length).toBe(count - 1);
    return { ...it, lastCalls: last };
  }

  test('end with a release that asks for as much after 150 of them as after 20', async () => {
    const few = await afterSaves(20, newDisk());
    const many = await afterSaves(150, newDisk());
    expect(few.lastCalls).toBeGreaterThan(5);
    expect(many.lastCalls).toBeLessThanOrEqual(few.lastCalls + 2);
    expect(await many.model.compare(many.world)).toEqual([]);
  });

  test('leave a start that looks at each ghost once', async () => {
    const callsOf = async (count: number) => {
      const disk = newDisk();
      const { world, model } = await afterSaves(count, disk);
      await world.stop();
      let calls = 0;
      const looks = new Map<Vid, number>();
      const next = await openWorld(disk.kill(), (store) => {
        return asking(store, (call, name) => {
          calls += 1;
          const isRoot = name?.kind === KIND.inode && name.index === 0;
          if (call === 'read' && isRoot) looks.set(name.vid, (looks.get(name.vid) ?? 0) + 1);
        });
      });
      const ghosts = (await next.directory.deletions()).map(({ vid }) => vid);
      calls = 0;
      await next.deletions.start();
      await eventually(() => looks.has(ghosts.at(-1)!)).toBe(true);
      await next.deletions[Symbol.asyncDispose]();
      const all = calls;
      // Header and entries; never again because of another one.
      expect(ghosts.map((vid) => looks.get(vid))).toEqual(ghosts.map(() => 2));
      expect(await model.compare(next)).toEqual([]);
      return all;
    };
    expect(await callsOf(80)).toBeLessThan(4.5 * (await callsOf(20)));
  });
});

test('what a writer lets go of over a ghost goes with the next snapshot that is deleted', async () => {
  const disk = newDisk();
  const { world, model } = await withBase(disk);
  await write(world, model, 'base', { first: 0, count: 4 * OBJECT_BLOCKS, value: 1 });
  for (let night = 0; night < 8; night += 1) {
    const tag = `n${night}`;
    await world.volumes.snapshot('base', tag);
    // While it is copied away a block of each object; afterwards, over the day, all of some.
    for (const object of [0, 1, 2, 3]) {
      await write(world, model, 'base', { first: object * OBJECT_BLOCKS, count: 1, value: night });
    }
    await remove(world, tag);
    const first = (night % 4) * OBJECT_BLOCKS;
    await write(world, model, 'base', { first, count: OBJECT_BLOCKS, value: 100 + night });
  }
  await world.volumes.snapshot('base', 'last');
  await remove(world, 'last');
  expect(await leaks(disk, world)).toEqual([]);
  expect(await model.compare(world)).toEqual([]);
});

test('a ghost loses a leaf of which nothing is read any more, and keeps the others', async () => {
  const disk = newDisk();
  const world = await openWorld(disk);
  const sizeBytes = 3 * LEAF_OBJECTS * OBJECT_BYTES;
  await world.volumes.create({ name: 'base', sizeBytes, objectBytes: OBJECT_BYTES });
  const device = await world.device('base');
  const far = 2 * LEAF_OBJECTS + 1;
  const change = (index: number, length: number) =>
    device.write(index * OBJECT_BYTES, new Uint8Array(length).fill(7), { durable: false });
  for (const index of [0, far]) await change(index, 2 * BLOCK_BYTES);
  await world.volumes.snapshot('base', 'a');
  for (const index of [0, far]) await change(index, BLOCK_BYTES);
  await world.volumes.snapshot('base', 'b');
  await change(far, OBJECT_BYTES);
  await world.volumes.snapshot('base', 'c');
  const [ghost] = await world.directory.all();
  const { vid, family } = ghost!;
  const data = (index: number) => ({ kind: KIND.data, vid, index, slot: 0 });
  const near = [data(0), leafName(vid, family, 0), rootName(vid, family)].map(formatOid);
  const left = async () => (await objectFiles(disk)).filter((oid) => all.includes(oid)).toSorted();
  const all = [...near, ...[data(far), leafName(vid, family, 2)].map(formatOid)];

  await remove(world, 'a');
  expect(await left()).toEqual(all.toSorted());
  await remove(world, 'b');
  expect(await left()).toEqual(near.toSorted());
  await change(0, OBJECT_BYTES);
  await remove(world, 'c');
  expect(await left()).toEqual([]);
});

test.for([
  ['a', 'b'],
  ['b', 'a'],
])('%s and %s are deleted at once, and what only they read goes', async (order) => {
  const disk = newDisk();
  const { world, model } = await withBase(disk);
  const snapshot = (tag: string) => world.volumes.snapshot('base', tag);
  for (const [tag, block] of [
    ['lower', 0],
    ['upper', 5],
  ] as const) {
    await write(world, model, 'base', { first: block, count: 2, value: 1 });
    await write(world, model, 'base', { first: OBJECT_BLOCKS + block, count: 2, value: 2 });
    await snapshot(tag);
  }
  await snapshot('b'); // has the leaf of the upper ghost, and through its object reads the lower one's
  await write(world, model, 'base', { first: 0, count: 2, value: 3 });
  await snapshot('a'); // reads the upper ghost's object, and nothing of the lower one
  await write(world, model, 'base', { first: 0, count: OBJECT_BLOCKS, value: 4 });
  await remove(world, 'lower');
  await remove(world, 'upper');
  expect(await leaks(disk, world)).toEqual([]);
  const dead: VolumeRecord[] = [];
  for (const tag of order) {
    dead.push(await world.volumes.delete('base', { ...DELETE, snapshot: tag }));
  }
  for (const record of dead) await world.deletions.finish(record);
  expect(await leaks(disk, world)).toEqual([]);
  expect(await model.compare(world)).toEqual([]);
});

/** base over two snapshots; the older is a ghost, and only the newer one reads of it. */
async function overGhost(disk: SimDisk, ask: Parameters<typeof asking>[1], clock?: ManualClock) {
  const world = await openWorld(disk, (store) => asking(store, ask), clock);
  await world.deletions.start();
  const model = new FamilyModel();
  await create(world, model, 'base', 3 * OBJECT_BLOCKS);
  await write(world, model, 'base', { first: 0, count: 2 * OBJECT_BLOCKS, value: 1 });
  await world.volumes.snapshot('base', 'a');
  await write(world, model, 'base', { first: 9, count: 1, value: 2 });
  await world.volumes.snapshot('base', 'b');
  await write(world, model, 'base', { first: 0, count: 2 * OBJECT_BLOCKS, value: 3 });
  await (await world.device('base')).flush();
  await remove(world, 'a');
  expect(await world.directory.deletions()).toHaveLength(1);
  return { world, model };
}

test('the last of a family goes, and no object is asked for what it inherits', async () => {
  let asked = 0;
  const disk = newDisk();
  const { world } = await overGhost(disk, (call) => {
    if (call === 'sources') asked += 1;
  });
  await world.leaveAll();
  await world.deletions.finish(await world.volumes.delete('base', DELETE));
  asked = 0;
  await remove(world, 'b');
  expect(asked).toBe(0);
  expect(await world.directory.all()).toEqual([]);
  expect(await objectFiles(disk)).toEqual([]);
});

test.for(['ERR_CORRUPT', 'ERR_MISSING'] as const)(
  'where it cannot be told what is freed, for %s, all of it goes all the same',
  async (code) => {
    let damaged = false;
    const disk = newDisk();
    const { world, model } = await overGhost(disk, (call, name) => {
      if (damaged && call === 'sources' && name?.vid === 2) throw new SheepError(code, 'damaged');
    });
    damaged = true;
    await remove(world, 'b');
    expect((await world.directory.all()).map(({ state }) => state)).toEqual(['ready']);
    expect(await leaks(disk, world)).toEqual([]);
    expect(await model.compare(world)).toEqual([]);
  },
);

test('a deletion that fails at any of its calls is finished by the next round', async () => {
  for (let steps = 0; ; steps += 1) {
    const clock = new ManualClock();
    const disk = newDisk();
    let left = Infinity;
    const { world, model } = await overGhost(
      disk,
      () => {
        left -= 1;
        if (left < 0) throw new SheepError('ERR_IO', 'not now');
      },
      clock,
    );
    const record = await world.volumes.delete('base', { ...DELETE, snapshot: 'b' });
    left = steps;
    const failed = await world.deletions.finish(record).then(
      () => false,
      () => true,
    );
    left = Infinity;
    await eventually(async () => {
      await clock.pass(61_000, 1000);
      return (await world.directory.deletions()).length;
    }).toBe(0);
    expect(await leaks(disk, world), `after ${steps} calls`).toEqual([]);
    expect(await model.compare(world)).toEqual([]);
    await world.stop();
    if (failed) continue;
    expect(steps).toBeGreaterThan(20);
    return;
  }
});
