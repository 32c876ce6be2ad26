import { describe, expect, test } from 'vitest';
import { releaseHeld } from '../../src/app/cluster-snapshots/held.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS, objectFiles, STORE } from '../vdi/family-world.ts';
import { heldIn, saveNow, wrongIn } from './cluster-saves.ts';
import { BLOCKS, type ClusterWorld, family, HERE, NODE, openCluster } from './cluster-world.ts';

const emptyDisk = () => new SimDisk({ directories: [STORE] });
const DELETE = { dryRun: false };

/** A cluster with a family, of which nobody has anything open. */
async function withFamily() {
  const disk = emptyDisk();
  const world = await openCluster(disk);
  const model = new FamilyModel();
  await family(world, model);
  return { disk, world, model };
}

async function remove(world: ClusterWorld, model: FamilyModel, name: string, tag?: string) {
  const what = tag === undefined ? DELETE : { ...DELETE, snapshot: tag };
  await world.deletions.finish(await world.volumes.delete(name, what));
  model.delete(tag === undefined ? name : `${name}@${tag}`);
}

/** The cluster is as the model has it, and no object is nobody's. */
async function expectSound(disk: SimDisk, world: ClusterWorld, model: FamilyModel) {
  await world.settle();
  expect(await model.compare(world)).toEqual([]);
  expect(await leaks(disk, world)).toEqual([]);
}

describe('a snapshot of the cluster', () => {
  test('holds every VDI and every snapshot as it was, with what is said of them', async () => {
    const { disk, world, model } = await withFamily();
    const { snap, entry } = await saveNow(world, 'mon');
    expect(await wrongIn(world.parts.store, snap, model)).toEqual([]);
    expect(await world.parts.store.readSnap(entry.name)).toEqual(snap);
    expect(snap).toMatchObject({ log: 'user', epoch: 1, tag: 'mon', nodes: [NODE] });
    const by = new Map(snap.disks.map((each) => [`${each.name}@${each.snapshot}`, each]));
    expect([...by.keys()].sort()).toEqual(['base@', 'base@one', 'c1@', 'c1@two', 'c2@']);
    const records = await world.directory.served();
    for (const { name, tag, createdMs, allow, sizeBytes, objectBytes, family: root } of records) {
      const facts = { createdMs, allow, sizeBytes, objectBytes, family: root, clusterId: HERE };
      const snapshotMs = tag === '' ? snap.timeMs : createdMs;
      expect(by.get(`${name}@${tag}`)).toMatchObject({ ...facts, snapshotMs });
    }
    const vidOf = (name: string) => by.get(name)?.vid;
    const parents = snap.disks.map((each) => [`${each.name}@${each.snapshot}`, each.parent]);
    expect(Object.fromEntries(parents)).toEqual({
      ...{ 'base@one': 0, 'base@': vidOf('base@one'), 'c1@two': vidOf('base@one') },
      ...{ 'c1@': vidOf('c1@two'), 'c2@': vidOf('c1@two') },
    });
    await expectSound(disk, world, model);
    expect((await heldIn(world)).map((each) => each.split(' ').slice(0, 2).join(' '))).toEqual([
      ...['base held', 'c1 held', 'c2 held'],
    ]);
  });

  test('reads only what changed since the last one, and of what did not change nothing', async () => {
    const { disk, world, model } = await withFamily();
    const first = await saveNow(world, 'mon');
    const before = await heldIn(world);
    const second = await saveNow(world, 'tue');
    expect(second).toMatchObject({ readBytes: 0, reusedDisks: 5, storedBytes: 0 });
    expect(second.snap.disks).toEqual(first.snap.disks);
    expect(await heldIn(world)).toEqual(before);

    await write(world, model, 'base', { first: 2, count: 1, value: 91 });
    await write(world, model, 'c2', { first: 3 * OBJECT_BLOCKS + 9, count: 1, value: 92 });
    const third = await saveNow(world, 'wed');
    // A slice of four blocks of each.
    expect(third).toMatchObject({ readBytes: 8 * 4096, reusedDisks: 3 });
    expect(await wrongIn(world.parts.store, third.snap, model)).toEqual([]);
    await world.leaveAll();
    await expectSound(disk, world, model);
  });

  test('follows trims, snapshots, rollbacks, clones and sizes from one to the next', async () => {
    const { disk, world, model } = await withFamily();
    const { store } = world.parts;
    await saveNow(world, 'a');
    const steps: (() => Promise<unknown>)[] = [
      async () => {
        const device = await world.device('base');
        await device.trim(4096 * OBJECT_BLOCKS, 4096 * OBJECT_BLOCKS, { durable: false });
        model.fill('base', OBJECT_BLOCKS, OBJECT_BLOCKS, 0);
      },
      async () => {
        await world.volumes.snapshot('base', 'later');
        model.snapshot('base', 'later');
        await write(world, model, 'base', { first: 7, count: 2, value: 61 });
      },
      async () => {
        await world.leaveAll();
        await world.volumes.rollback('base', 'one');
        model.rollback('base', 'one');
      },
      async () => {
        await world.volumes.resize('c2', 2 * 4096, DELETE);
        model.resize('c2', 2);
      },
      async () => {
        await world.volumes.resize('c2', 4096 * 2 * OBJECT_BLOCKS, DELETE);
        model.resize('c2', 2 * OBJECT_BLOCKS);
        await write(world, model, 'c2', { first: OBJECT_BLOCKS, count: 1, value: 62 });
      },
      async () => {
        await world.volumes.clone({ name: 'base', snapshot: 'later' }, 'c3');
        model.clone('base@later', 'c3');
      },
      async () => {
        await world.leaveAll();
        await remove(world, model, 'c1', 'two');
        await remove(world, model, 'base', 'one');
      },
      () => write(world, model, 'c1', { first: OBJECT_BLOCKS, count: 3, value: 63 }),
      async () => {
        await create(world, model, 'new', 9);
      },
    ];
    for (const [number, step] of steps.entries()) {
      await step();
      const { snap } = await saveNow(world, `s${number}`);
      expect(await wrongIn(store, snap, model), `after step ${number}`).toEqual([]);
      expect((await heldIn(world)).filter((each) => each.includes('held'))).toHaveLength(
        model.names.length,
      );
      await world.settle();
      expect(await leaks(disk, world), `after step ${number}`).toEqual([]);
    }
    await world.leaveAll();
    await expectSound(disk, world, model);
  });

  test('keeps what it froze as it was, whatever goes beside it', async () => {
    const { disk, world, model } = await withFamily();
    const { store } = world.parts;
    await saveNow(world, 'mon');
    await write(world, model, 'base', { first: 2, count: 1, value: 91 });
    await saveNow(world, 'tue');
    // Of the state of before that the last one needs all, and the VDI nothing any more.
    await write(world, model, 'base', { first: 0, count: BLOCKS, value: 92 });
    await (await world.device('base')).flush();
    await world.leaveAll();
    await remove(world, model, 'base', 'one');
    await world.settle();
    expect(await leaks(disk, world)).toEqual([]);
    const { snap, reusedDisks } = await saveNow(world, 'wed');
    expect(await wrongIn(store, snap, model)).toEqual([]);
    expect(reusedDisks).toBe(3);
  });

  test('is seen by nobody who asks what a VDI has of its own, and what of its snapshot', async () => {
    const { world } = await withFamily();
    const told = async () => {
      const device = await world.device('base');
      const { sizeBytes } = device.info;
      const depths = await device.describe?.('qemu:allocation-depth', 0, sizeBytes, 1000);
      const attached = await world.volumes.countObjects('base');
      await world.leaveAll();
      return { depths, attached, resting: await world.volumes.countObjects('base') };
    };
    const before = await told();
    expect(before.attached).toMatchObject({ own: 2 });
    await saveNow(world, 'mon');
    expect(await told()).toEqual(before);
    await world.device('base'); // whoever has it open
    await saveNow(world, 'tue');
    expect(await told()).toEqual(before);
  });

  test('keeps nothing back once all VDIs are deleted', async () => {
    const { disk, world, model } = await withFamily();
    await saveNow(world, 'mon');
    await write(world, model, 'base', { first: 2, count: 1, value: 91 });
    await saveNow(world, 'tue');
    await world.leaveAll();
    for (const name of ['base', 'c1', 'c2']) await remove(world, model, name);
    await remove(world, model, 'base', 'one');
    await remove(world, model, 'c1', 'two');
    await world.settle();
    expect(await world.directory.all()).toEqual([]);
    expect(await leaks(disk, world)).toEqual([]);
    expect(await objectFiles(disk)).toEqual([]);
  });

  test('is not taken twice under a tag, and not under what can be none', async () => {
    const { world } = await withFamily();
    await saveNow(world, 'mon');
    const before = await world.directory.all();
    await expect(saveNow(world, 'mon')).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await expect(saveNow(world, '17')).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
    expect(await world.directory.all()).toEqual(before);
    expect(world.parts.store.snaps()).toHaveLength(1);
  });

  test('of a cluster without VDIs is empty', async () => {
    const world = await openCluster(emptyDisk());
    const { snap } = await saveNow(world, 'mon');
    expect(snap).toMatchObject({ tag: 'mon', disks: [] });
  });
});

test('what was frozen and never stored is let go, and nothing is while a save goes on', async () => {
  const { disk, world, model } = await withFamily();
  await saveNow(world, 'mon');
  const named = await heldIn(world);
  await write(world, model, 'base', { first: 2, count: 1, value: 91 });
  {
    using frozen = await world.volumes.freezeAll(world.parts.clock);
    const base = frozen.vdis.find(({ working }) => working.name === 'base')?.held;
    await world.leaveAll();
    await releaseHeld(world.parts);
    await remove(world, model, 'c2');
    expect(await heldIn(world)).toEqual([...named, `base held ${base?.vid}`]);
  }
  // As at the start after a save was killed.
  await releaseHeld(world.parts);
  await world.settle();
  const states = (await heldIn(world)).map((each) => each.split(' ').slice(0, 2).join(' '));
  expect(states).toEqual(['base held', 'c1 held', 'base released']);
  await expectSound(disk, world, model);
});
