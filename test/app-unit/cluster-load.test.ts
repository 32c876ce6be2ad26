import { describe, expect, test } from 'vitest';
import { loadSnapshot, planLoad } from '../../src/app/cluster-snapshots/load.ts';
import type { LoadOptions } from '../../src/app/cluster-snapshots/load-plan.ts';
import type { Snap } from '../../src/farm/snapshots/snap-contents.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { exportName, type VolumeRecord } from '../../src/vdi/record.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS, objectFiles, STORE } from '../vdi/family-world.ts';
import { saveNow } from './cluster-saves.ts';
import {
  type ClusterOptions,
  type ClusterWorld,
  ELSEWHERE,
  family,
  openCluster,
  SLICE_BYTES,
} from './cluster-world.ts';

const emptyDisk = () => new SimDisk({ directories: [STORE] });
const DELETE = { dryRun: false };

/** A cluster with a family, saved as `mon`. */
async function saved() {
  const disk = emptyDisk();
  const world = await openCluster(disk);
  const model = new FamilyModel();
  await family(world, model);
  const snap = (await saveNow(world, 'mon')).snap;
  return { disk, world, model, snap };
}

function load({ parts }: ClusterWorld, snap: Snap, options: LoadOptions = {}) {
  return loadSnapshot(parts, snap, options, {}, () => undefined);
}

async function remove(world: ClusterWorld, model: FamilyModel, name: string, tag?: string) {
  const what = tag === undefined ? DELETE : { ...DELETE, snapshot: tag };
  await world.deletions.finish(await world.volumes.delete(name, what));
  model.delete(tag === undefined ? name : `${name}@${tag}`);
}

/** What the directory says of VDIs and snapshots; parents, also what they are held for, by names. */
async function told({ directory }: ClusterWorld) {
  const all = await directory.all();
  const byVid = new Map(all.map((record) => [record.vid, record]));
  const isServed = ({ state }: VolumeRecord) => state === 'ready' || state === 'snapshot';
  const parentOf = (record: VolumeRecord): string => {
    const parent = byVid.get(record.parent);
    if (parent === undefined) return '';
    return isServed(parent) ? exportName(parent) : parentOf(parent);
  };
  const served = await directory.served(); // with the rules that count
  return served
    .map((record) => {
      const { name, tag, state, createdMs, allow, sizeBytes, shrunkFromBytes } = record;
      const parent = parentOf(record);
      return { name, tag, state, createdMs, allow, sizeBytes, shrunkFromBytes, parent };
    })
    .sort((a, b) => (exportName(a) < exportName(b) ? -1 : 1));
}

/** In a model, what is called `name` in another. */
function copyOf(from: FamilyModel, name: string, model: FamilyModel, as: string): void {
  const contents = from.of(name);
  model.create(as, contents.length);
  for (const [block, value] of contents.entries()) model.fill(as, block, 1, value);
}

/** All is as the model has it, nothing is lost, and so it is after a power cut and a start. */
async function expectSound(
  disk: SimDisk,
  world: ClusterWorld,
  model: FamilyModel,
  options: ClusterOptions = {},
): Promise<void> {
  await world.settle();
  expect(await model.compare(world)).toEqual([]);
  expect(await leaks(disk, world)).toEqual([]);
  await world.leaveAll();
  const cut = disk.powerCut('nothing');
  disk.halt();
  const next = await openCluster(cut, options);
  expect(await model.compare(next)).toEqual([]);
  await next.settle();
  expect(await leaks(cut, next)).toEqual([]);
}

describe('a load', () => {
  test('brings all of it to another cluster: bytes, families, times, tags and rules', async () => {
    const { disk: storeDisk, world: from, model, snap } = await saved();
    const before = await told(from);
    const disk = emptyDisk();
    const world = await openCluster(disk, { clusterId: ELSEWHERE, storeDisk });
    const loaded = await load(world, snap);
    expect(loaded.made.map((made) => made.export)).toEqual([
      ...['base@one', 'base', 'c1@two', 'c1', 'c2'],
    ]);
    expect(loaded).toMatchObject({ reused: [], replaced: [] });
    expect(await told(world)).toEqual(before);
    await expectSound(disk, world, model, { clusterId: ELSEWHERE, storeDisk });
  });

  test('takes no more of the medium than what was saved took', async () => {
    const storeDisk = emptyDisk();
    const from = await openCluster(storeDisk);
    await family(from, new FamilyModel());
    const objectsOf = async ({ volumes }: ClusterWorld) => {
      const names = (await volumes.list()).map(({ name }) => name).sort();
      return Promise.all(names.map(async (name) => (await volumes.countObjects(name)).own));
    };
    const [was, files] = [await objectsOf(from), await objectFiles(storeDisk)];
    const { snap } = await saveNow(from, 'mon');
    const disk = emptyDisk();
    const world = await openCluster(disk, { clusterId: ELSEWHERE, storeDisk });
    await load(world, snap);
    expect(await objectsOf(world)).toEqual(was);
    expect(await objectFiles(disk)).toHaveLength(files.length);
  });

  test('leaves other VDIs, and what is there under other names, as they are', async () => {
    const { disk: storeDisk, model, snap } = await saved();
    const disk = emptyDisk();
    const world = await openCluster(disk, { clusterId: ELSEWHERE, storeDisk });
    await create(world, model, 'other', 9);
    await write(world, model, 'other', { first: 2, count: 3, value: 7 });
    await world.volumes.snapshot('other', 'one');
    model.snapshot('other', 'one');
    await load(world, snap); // while somebody uses it
    await write(world, model, 'other', { first: 1, count: 2, value: 8 });
    await expectSound(disk, world, model, { clusterId: ELSEWHERE, storeDisk });
  });

  test('of one VDI brings it with its snapshots, also when those it was cloned of are gone', async () => {
    const { disk: storeDisk, model, snap } = await saved();
    const disk = emptyDisk();
    const world = await openCluster(disk, { clusterId: ELSEWHERE, storeDisk });
    const loaded = await load(world, snap, { vdi: 'c1' });
    expect(loaded.made.map((made) => made.export)).toEqual(['c1@two', 'c1']);
    for (const name of ['base', 'base@one', 'c2']) model.delete(name);
    await expectSound(disk, world, model, { clusterId: ELSEWHERE, storeDisk });
  });

  test('under another name stands beside what it was saved of, and shares with it', async () => {
    const { disk, world, model, snap } = await saved();
    const files = (await objectFiles(disk)).length;
    const loaded = await load(world, snap, { vdi: 'base', as: 'new' });
    expect(loaded).toMatchObject({ made: [{ export: 'new@one' }, { export: 'new' }] });
    // The snapshot is there, and base has changed four slices and zeroed two.
    expect(loaded.made[0]).toMatchObject({ writtenBytes: 0, zeroedBytes: 0 });
    expect(loaded.made[1]?.writtenBytes).toBe(4 * SLICE_BYTES);
    model.clone('base@one', 'new');
    model.snapshot('new', 'one');
    copyOf(model, 'base', model, 'new');
    await world.settle();
    // Two roots, a leaf, and two objects that inherit.
    expect((await objectFiles(disk)).length - files).toBe(2 + 1 + 2);
    await expectSound(disk, world, model);
  });

  test('of a VDI that was destroyed reuses its snapshots, and reads what differs from them', async () => {
    const { disk, world, model, snap } = await saved();
    const [of, before] = [model.copy(), await told(world)];
    await remove(world, model, 'base');
    const told1 = await told(world);
    expect(told1).not.toEqual(before);
    const loaded = await load(world, snap, { vdi: 'base' });
    expect(loaded).toMatchObject({ reused: [{ export: 'base@one' }], made: [{ export: 'base' }] });
    expect(loaded.writtenBytes).toBe(4 * SLICE_BYTES);
    expect(await told(world)).toEqual(before);
    await expectSound(disk, world, of);
  });

  test('of nothing, or of what is all there, changes nothing', async () => {
    const empty = await openCluster(emptyDisk());
    const nothing = (await saveNow(empty, 'mon')).snap;
    expect(await load(empty, nothing)).toMatchObject({ made: [], reused: [] });
    const { disk, world, model } = await saved();
    for (const name of ['base', 'c1', 'c2']) await remove(world, model, name);
    const { snap } = await saveNow(world, 'snapshots');
    const before = await world.directory.all();
    const loaded = await load(world, snap);
    expect(loaded).toMatchObject({ made: [], reused: [{}, {}], writtenBytes: 0 });
    expect(await world.directory.all()).toEqual(before);
    await expectSound(disk, world, model);
  });

  test('of ten clones costs what they were cloned of once', async () => {
    const storeDisk = emptyDisk();
    const from = await openCluster(storeDisk);
    const model = new FamilyModel();
    await create(from, model, 'gold', 3 * OBJECT_BLOCKS);
    for (let first = 0; first < 3 * OBJECT_BLOCKS; first += 64) {
      await write(from, model, 'gold', { first, count: 64, value: 1 });
    }
    await from.volumes.snapshot('gold', 'v1');
    model.snapshot('gold', 'v1');
    for (let nth = 0; nth < 10; nth += 1) {
      await from.volumes.clone({ name: 'gold', snapshot: 'v1' }, `vm${nth}`);
      model.clone('gold@v1', `vm${nth}`);
      await write(from, model, `vm${nth}`, { first: nth, count: 1, value: 50 + nth });
    }
    const snap = (await saveNow(from, 'mon')).snap;
    const disk = emptyDisk();
    const options = { clusterId: ELSEWHERE, storeDisk };
    const world = await openCluster(disk, options);
    const loaded = await load(world, snap);
    expect(loaded.made.slice(2).map((made) => made.writtenBytes)).toEqual(
      new Array(10).fill(SLICE_BYTES),
    );
    let ownBlocks = 0;
    for (const { name } of await world.volumes.list()) {
      const device = await world.device(name);
      const runs = await device.describe!('qemu:allocation-depth', 0, 3 * 2 ** 20, 1000);
      const own = runs.filter(({ flags }) => flags === 1);
      ownBlocks += own.reduce((sum, { length }) => sum + length / 4096, 0);
    }
    expect(ownBlocks).toBe(3 * OBJECT_BLOCKS + 10);
    await expectSound(disk, world, model, options);
  });

  test('of disks that were shrunk and grown between two snapshots brings each in its size', async () => {
    const storeDisk = emptyDisk();
    const from = await openCluster(storeDisk);
    const model = new FamilyModel();
    await create(from, model, 'd', 3 * OBJECT_BLOCKS);
    for (const block of [0, 5, 6, 7, OBJECT_BLOCKS + 9, 3 * OBJECT_BLOCKS - 1]) {
      await write(from, model, 'd', { first: block, count: 1, value: block + 1 });
    }
    const steps: [string, number][] = [
      ['large', 6],
      ['tiny', OBJECT_BLOCKS + 10],
      ['grown', 3 * OBJECT_BLOCKS],
    ];
    for (const [tag, blocks] of steps) {
      await from.volumes.snapshot('d', tag);
      model.snapshot('d', tag);
      await from.leaveAll();
      await from.volumes.resize('d', blocks * 4096, DELETE);
      model.resize('d', blocks);
    }
    const snap = (await saveNow(from, 'mon')).snap;
    const disk = emptyDisk();
    const options = { clusterId: ELSEWHERE, storeDisk };
    const world = await openCluster(disk, options);
    await load(world, snap);
    expect(await told(world)).toEqual(await told(from));
    await expectSound(disk, world, model, options);
    for (const [tag] of steps) expect(model.of(`d@${tag}`).length).toBeGreaterThan(5);
  });
});

describe('a snapshot that is deleted while a load runs', () => {
  /** Deletes it when the first bytes of the load are written. */
  async function loadMeanwhile(options: LoadOptions) {
    const it = await saved();
    await remove(it.world, it.model, 'base');
    let removing: Promise<void> | undefined;
    const loading = loadSnapshot(it.world.parts, it.snap, options, {}, () => {
      removing ??= remove(it.world, it.model, 'base', 'one');
    });
    const outcome = await loading.catch((error) => error);
    await removing;
    return { ...it, outcome };
  }

  test('is no loss to what is grown from it', async () => {
    const { disk, world, model, outcome } = await loadMeanwhile({ vdi: 'base', as: 'new' });
    expect(outcome).toMatchObject({ made: [{ export: 'new@one' }, { export: 'new' }] });
    const blocks = (await saved()).model;
    copyOf(blocks, 'base@one', model, 'new');
    model.snapshot('new', 'one');
    copyOf(blocks, 'base', model, 'new');
    await expectSound(disk, world, model);
  });

  test('fails the load if it was to be reused, which leaves nothing', async () => {
    const { disk, world, model, outcome } = await loadMeanwhile({ vdi: 'base' });
    expect(outcome).toMatchObject({
      code: 'ERR_BUSY',
      message: expect.stringMatching(/deleted meanwhile/),
    });
    await expectSound(disk, world, model);
  });
});

describe('what was loaded', () => {
  test('is known for what it is: it is reused by the next load, and not read by the next save', async () => {
    const { disk: storeDisk, model, snap } = await saved();
    const disk = emptyDisk();
    const options = { clusterId: ELSEWHERE, storeDisk };
    const world = await openCluster(disk, options);
    await load(world, snap);
    await world.deletions.finish(await world.volumes.delete('base', DELETE));
    await write(world, model.copy(), 'c1', { first: 3, count: 1, value: 9 });
    await world.leaveAll();
    await world.volumes.snapshot('c1', 'late');
    const again = await load(world, snap, { replace: true });
    expect(again.reused.map((each) => each.export)).toEqual(['base@one', 'c1@two']);
    expect(again.made.map((each) => each.export)).toEqual(['base', 'c1', 'c2']);
    await world.deletions.finish(await world.volumes.delete('c1', { ...DELETE, snapshot: 'late' }));

    const next = await saveNow(world, 'tue');
    expect(next.reusedDisks).toBe(2);
    // What differs from the snapshots: four slices of base, and of c2 one, and its longer end.
    expect(next.readBytes).toBeLessThanOrEqual(9 * SLICE_BYTES);
    expect(await model.compare(world)).toEqual([]);
    const roots = (of: Snap) =>
      of.disks.map(({ name, snapshot, root }) => [
        name,
        snapshot,
        Buffer.from(root).toString('hex'),
      ]);
    expect(roots(next.snap).sort()).toEqual(roots(snap).sort());
    await world.leaveAll();
    // Of the second cluster's own snapshot as well.
    const third = await load(world, next.snap, { replace: true });
    expect(third.reused).toHaveLength(2);
    expect(third.writtenBytes).toBe(0);
    await expectSound(disk, world, model, options);
  });

  test('is no other snapshot of its name, however it looks', async () => {
    const { disk: storeDisk, snap } = await saved();
    const disk = emptyDisk();
    const world = await openCluster(disk, { clusterId: ELSEWHERE, storeDisk });
    await load(world, snap, { vdi: 'c1' });
    const later = snap.disks.map((each) => ({ ...each, snapshotMs: each.snapshotMs + 1 }));
    const changed = { ...snap, disks: later };
    await expect(load(world, changed, { vdi: 'c1', replace: true })).rejects.toMatchObject({
      code: 'ERR_EXISTS',
    });
  });
});

describe('a load that replaces', () => {
  test('puts the VDI back as it was, and removes what it was by then', async () => {
    const { disk, world, model, snap } = await saved();
    const [of, before] = [model.copy(), await told(world)];
    await write(world, model, 'base', { first: 0, count: 100, value: 99 });
    await write(world, model, 'c2', { first: 0, count: 10, value: 98 });
    await world.volumes.snapshot('base', 'late');
    model.snapshot('base', 'late');
    for (const name of ['base', 'c1', 'c2']) copyOf(of, name, model, name);
    await world.leaveAll();
    const loaded = await load(world, snap, { replace: true });
    expect(loaded).toMatchObject({
      made: [{ export: 'base' }, { export: 'c1' }, { export: 'c2' }],
      reused: [{ export: 'base@one' }, { export: 'c1@two' }],
    });
    expect(loaded.replaced.map((each) => each.export).sort()).toEqual(['base', 'c1', 'c2']);
    // They are held as they were when they were saved.
    expect(loaded.writtenBytes).toBe(0);
    expect((await told(world)).filter(({ tag }) => tag !== 'late')).toEqual(before);
    await expectSound(disk, world, model);
  });

  test('is refused while anybody uses one of them, all of whom it names', async () => {
    const { world, snap } = await saved();
    await world.device('c1');
    await world.device('c2');
    const records = await world.directory.all();
    await expect(load(world, snap, { replace: true })).rejects.toMatchObject({
      code: 'ERR_BUSY',
      message: expect.stringMatching(/'c1' is used by a test; .*'c2' is used by a test.*Nothing/),
    });
    expect(await stripped(world)).toEqual(records.map(({ vid, state }) => ({ vid, state })));
  });

  test('is refused when somebody begins to use one meanwhile, and leaves nothing', async () => {
    const { disk, world, model, snap } = await saved();
    const loading = loadSnapshot(world.parts, snap, { replace: true }, {}, () => {
      void world.device('c2');
    });
    await expect(loading).rejects.toMatchObject({ code: 'ERR_BUSY' });
    await expectSound(disk, world, model);
  });
});

async function stripped({ directory }: ClusterWorld) {
  return (await directory.all()).map(({ vid, state }) => ({ vid, state }));
}

describe('a load is refused, and nothing is changed', () => {
  test.for<[string, LoadOptions, string, RegExp]>([
    ['VDIs of these names', {}, 'ERR_EXISTS', /VDI 'base'.*VDI 'c1'.*VDI 'c2'.*--replace/],
    ['a VDI of this name', { vdi: 'c1' }, 'ERR_EXISTS', /^there is a VDI 'c1'\. Nothing/],
    ['the new name', { vdi: 'c1', as: 'c2' }, 'ERR_EXISTS', /^there is a VDI 'c2'\. Nothing/],
    ['no such VDI', { vdi: 'c3' }, 'ERR_NOT_FOUND', /holds no VDI 'c3'/],
    ['a new name for all', { as: 'x' }, 'ERR_BAD_INPUT', /say which/],
    ['a name that cannot be', { vdi: 'c1', as: 'a@b' }, 'ERR_BAD_INPUT', /contains '@'/],
  ])('because of %s', async ([, options, code, message]) => {
    const { world, snap } = await saved();
    const before = await world.directory.all();
    await expect(load(world, snap, options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    await expect(planLoad(world.parts, snap, options)).rejects.toMatchObject({ code });
    expect(await world.directory.all()).toEqual(before);
  });

  test('because of another snapshot under a tag, also when VDIs may be replaced', async () => {
    const { world, model, snap } = await saved();
    await remove(world, model, 'base', 'one');
    await world.volumes.snapshot('base', 'one');
    const before = await world.directory.all();
    await expect(load(world, snap, { vdi: 'base', replace: true })).rejects.toMatchObject({
      code: 'ERR_EXISTS',
      message: expect.stringMatching(/^there is another snapshot 'base@one'\. Nothing/),
    });
    expect(await world.directory.all()).toEqual(before);
  });

  test('because of what strangers left under its name, unless they may be replaced', async () => {
    const { disk: storeDisk, model, snap } = await saved();
    const disk = emptyDisk();
    const options = { clusterId: ELSEWHERE, storeDisk };
    const world = await openCluster(disk, options);
    await create(world, new FamilyModel(), 'c1', 8);
    await world.volumes.snapshot('c1', 'odd');
    model.create('c1@odd', 8);
    model.snapshot('c1@odd', '');
    await world.deletions.finish(await world.volumes.delete('c1', DELETE));
    await expect(load(world, snap)).rejects.toMatchObject({
      code: 'ERR_EXISTS',
      message: expect.stringMatching(/^'c1@odd', which is there, has nothing to do with it/),
    });
    await load(world, snap, { replace: true });
    expect((await world.volumes.list()).map(({ name }) => name)).toContain('c1@odd');
  });
});

test('a dry run says what the load then does, and changes nothing', async () => {
  const { disk, world, model, snap } = await saved();
  for (const options of [{ vdi: 'c1' }, { replace: true }, { vdi: 'base', as: 'b2' }]) {
    await remove(world, model, 'c1');
    const before = await world.directory.all();
    const files = await objectFiles(disk);
    const planned = await planLoad(world.parts, snap, options);
    expect(await world.directory.all()).toEqual(before);
    expect(await objectFiles(disk)).toEqual(files);
    let done = 0;
    const loaded = await loadSnapshot(world.parts, snap, options, {}, ({ doneBytes }) => {
      done = doneBytes;
    });
    expect(loaded).toEqual(planned);
    expect(done).toBe(planned.writtenBytes);
  }
});
