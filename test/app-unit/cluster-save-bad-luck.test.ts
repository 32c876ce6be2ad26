import { describe, expect, test } from 'vitest';
import { releaseHeld } from '../../src/app/cluster-snapshots/held.ts';
import { SheepError } from '../../src/base/errors.ts';
import { KIND } from '../../src/base/ids.ts';
import { LOG_NAME } from '../../src/cluster/local-coordinator.ts';
import { FARM_LIMITS, reservedBytesOn } from '../../src/farm/limits.ts';
import { checkStore } from '../../src/farm/snapshots/check.ts';
import { trunkShape } from '../../src/farm/snapshots/trunk-format.ts';
import { TrunkReader } from '../../src/farm/snapshots/trunk-reader.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { all } from '../farm/snapshots/backups.ts';
import { FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS, STORE } from '../vdi/family-world.ts';
import { hooked, type StoreFault } from '../vdi/stores.ts';
import { damage, differences, heldIn, saveNow, wrongIn } from './cluster-saves.ts';
import { BLOCKS, family, openCluster } from './cluster-world.ts';

/** A family that was saved as `mon`, its snapshots on a disk of their own; c1 is in use. */
async function savedOnce(fault: StoreFault = () => undefined) {
  const [disk, storeDisk] = [0, 1].map(() => new SimDisk({ directories: [STORE] })) as [
    SimDisk,
    SimDisk,
  ];
  const world = await openCluster(disk, { storeDisk, wrap: (inner) => hooked(inner, fault) });
  const model = new FamilyModel();
  await family(world, model);
  const { snap } = await saveNow(world, 'mon');
  await world.device('c1');
  const diskOf = (name: string) =>
    snap.disks.find((each) => each.name === name && each.snapshot === '')!;
  const { store } = world.parts;
  /** Nothing of a save is left but `mon`; VDIs are whole and writable; and the next one works. */
  const expectAsBefore = async () => {
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['mon']);
    await write(world, model, 'c1', { first: 17, count: 1, value: 77 });
    expect(await model.compare(world)).toEqual([]);
    await world.settle();
    expect(await leaks(disk, world)).toEqual([]);
    const held = (await heldIn(world)).filter((each) => each.includes(' held '));
    const named = new Set(snap.disks.map(({ vid }) => vid));
    expect(held.filter((each) => !named.has(Number(each.split(' ').at(-1))))).toEqual([]);
    const next = await saveNow(world, 'next');
    expect(await wrongIn(store, next.snap, model)).toEqual([]);
    await world.leaveAll();
  };
  return { disk, storeDisk, world, model, store, diskOf, expectAsBefore };
}

/** What is wrong with the newest snap alone. */
async function findingsOf({ store }: Awaited<ReturnType<typeof savedOnce>>, tag: string) {
  const snaps = store.snaps().filter((snap) => snap.tag === tag);
  return (await all(checkStore(store, { snaps }))).map(({ message }) => message);
}

describe('damage in the store', () => {
  test('of the tree of a VDI that did not change is not shared: it is stored anew', async () => {
    const it = await savedOnce();
    await damage(it.storeDisk, it.store, it.diskOf('base').root);
    const { snap, reusedDisks } = await saveNow(it.world, 'tue');
    expect(reusedDisks).toBe(3); // c1 is in use, and was frozen again
    expect(await differences(it.store, snap, it.model)).toEqual([]);
    expect(await findingsOf(it, 'tue')).toEqual([]);
  });

  test('of a part of the tree that a change meets is not built upon', async () => {
    const it = await savedOnce();
    const { root, sizeBytes, objectBytes } = it.diskOf('base');
    const { sliceBytes } = it.store.identity;
    const shape = trunkShape(sizeBytes, objectBytes, sliceBytes);
    const leaf = await new TrunkReader(it.store, { root, shape }).nameOf(0, 2);
    await damage(it.storeDisk, it.store, leaf);
    await write(it.world, it.model, 'base', { first: 2 * OBJECT_BLOCKS, count: 1, value: 81 });
    const { snap } = await saveNow(it.world, 'tue');
    expect(await differences(it.store, snap, it.model)).toEqual([]);
    expect(await findingsOf(it, 'tue')).toEqual([]);
  });

  test('of the last snapshot itself makes the one before the base', async () => {
    const it = await savedOnce();
    const tue = await saveNow(it.world, 'tue');
    await damage(it.storeDisk, it.store, tue.entry.name);
    const { reusedDisks, snap } = await saveNow(it.world, 'wed');
    expect(reusedDisks).toBe(snap.disks.length - 1);
    const lost = (await all(checkStore(it.store))).map(({ snap: of }) => of?.tag);
    expect(lost).toEqual(['tue']);
    expect(await findingsOf(it, 'wed')).toEqual([]);
  });
});

describe('a store that fails in the middle of a save', () => {
  test.for(['ERR_NO_SPACE', 'ERR_IO'] as const)('with %s leaves nothing of it', async (code) => {
    let failures = 0;
    for (let step = 1; ; step += 4) {
      const it = await savedOnce();
      await write(it.world, it.model, 'c1', { first: 0, count: 40, value: 83 });
      await write(it.world, it.model, 'base', { first: 0, count: BLOCKS, value: 84 });
      let count = 0;
      it.storeDisk.injectFaults((operation, path) => {
        if (operation !== 'write' || path.endsWith('/lock')) return undefined;
        count += 1;
        return count >= step ? new SheepError(code, 'as the test wants') : undefined;
      });
      const outcome = await saveNow(it.world, 'tue').catch((error) => error);
      it.storeDisk.injectFaults(() => undefined);
      if (count < step) break;
      expect(outcome).toMatchObject({ code });
      failures += 1;
      await it.expectAsBefore();
    }
    expect(failures).toBeGreaterThan(1);
  });
});

test('a save leaves room for VDIs, and says what is to be done', async () => {
  const [disk, totalBytes] = [new SimDisk({ directories: [STORE] }), 200 * 2 ** 20];
  const storeDisk = new SimDisk({ directories: [STORE], totalBytes });
  const world = await openCluster(disk, { storeDisk });
  const model = new FamilyModel();
  await family(world, model);
  await saveNow(world, 'mon');
  const before = await storeDisk.space(STORE);
  const needed = 2 * reservedBytesOn(totalBytes, FARM_LIMITS);
  await using ballast = await storeDisk.open(`${STORE}/ballast`, { create: true });
  const fill = before.freeBytes - needed + 4096;
  for (let at = 0; at < fill; at += 2 ** 20)
    await ballast.write(at, new Uint8Array(2 ** 20).fill(1));
  await write(world, model, 'base', { first: 0, count: 1, value: 87 });
  await expect(saveNow(world, 'tue')).rejects.toMatchObject({
    code: 'ERR_NO_SPACE',
    message: expect.stringMatching(/^'base' cannot be stored: .*collie cluster gc/),
  });
  await ballast.truncate(0);
  const { snap } = await saveNow(world, 'tue');
  expect(await wrongIn(world.parts.store, snap, model)).toEqual([]);
});

describe('a directory of VDIs that cannot be changed', () => {
  test('from any moment on fails the save, and once it can be, nothing of it is left', async () => {
    let failures = 0;
    for (let step = 1; ; step += 2) {
      const it = await savedOnce();
      await write(it.world, it.model, 'c1', { first: 0, count: 40, value: 83 });
      await write(it.world, it.model, 'base', { first: 0, count: 3, value: 84 });
      await it.world.leave('base');
      let count = 0;
      it.disk.injectFaults((operation, path) => {
        if (operation !== 'write' || !path.includes(LOG_NAME)) return undefined;
        count += 1;
        return count >= step ? new SheepError('ERR_NO_SPACE', 'as the test wants') : undefined;
      });
      const outcome = await saveNow(it.world, 'tue').catch((error) => error);
      it.disk.injectFaults(() => undefined);
      if (it.store.snaps().length > 1) break; // only what it froze before could not be let go of
      expect(outcome).toMatchObject({ code: 'ERR_NO_SPACE' });
      failures += 1;
      // As the next start does.
      await it.world.directory.abandonUnfinished();
      await releaseHeld(it.world.parts);
      await it.expectAsBefore();
    }
    expect(failures).toBeGreaterThan(1);
  });
});

describe('VDIs that fail in the middle of a save', () => {
  test('are named, and nothing of it is left', async () => {
    let isOn = false;
    const it = await savedOnce((operation, [name]) => {
      if (!isOn || operation !== 'read' || name?.kind !== KIND.data || name.index !== 2) return;
      throw new SheepError('ERR_CORRUPT', 'object is damaged');
    });
    await write(it.world, it.model, 'base', { first: 2 * OBJECT_BLOCKS, count: 1, value: 85 });
    isOn = true;
    await expect(saveNow(it.world, 'tue')).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: "'base' cannot be stored: object is damaged",
      facts: { disk: 'base' },
    });
    isOn = false;
    await it.expectAsBefore();
  });
});

test('whoever leaves ends a save, wherever it is, and nothing of it is left', async () => {
  for (let told = 1; ; told += 4) {
    const it = await savedOnce();
    await write(it.world, it.model, 'c1', { first: 0, count: 40, value: 83 });
    const stop = new AbortController();
    let count = 0;
    const saving = saveNow(it.world, 'tue', { signal: stop.signal }, () => {
      count += 1;
      if (count === told) stop.abort(new SheepError('ERR_SHUTDOWN', 'the caller left'));
    });
    const outcome = await saving.then(
      () => 'saved',
      (error) => error.code,
    );
    if (count < told) {
      expect(outcome).toBe('saved');
      expect(told).toBeGreaterThan(7);
      return;
    }
    expect(outcome).toBe('ERR_SHUTDOWN');
    await it.expectAsBefore();
  }
});

describe('while a save goes on', () => {
  const DELETE = { dryRun: false };

  test('VDIs may be written, rolled back and deleted, and it shows none of that', async () => {
    const it = await savedOnce();
    const { world, model } = it;
    const before = model.copy();
    let done: Promise<unknown> | undefined;
    const change = async () => {
      await write(world, model, 'c1', { first: 0, count: 40, value: 86 });
      await world.volumes.rollback('base', 'one');
      model.rollback('base', 'one');
      await world.deletions.finish(await world.volumes.delete('c2', DELETE));
      model.delete('c2');
      await world.volumes.create({ name: 'new', sizeBytes: 4096, objectBytes: 2 ** 20 });
      model.create('new', 1);
    };
    const { snap } = await saveNow(world, 'tue', {}, ({ phase }) => {
      if (phase === 'storing') done ??= change();
    });
    await done;
    expect(await wrongIn(it.store, snap, before)).toEqual([]);
    const next = await saveNow(world, 'wed');
    expect(await wrongIn(it.store, next.snap, model)).toEqual([]);
    await world.settle();
    expect(await leaks(it.disk, world)).toEqual([]);
    expect((await heldIn(world)).filter((each) => each.includes(' held '))).toHaveLength(3);
  });

  test('a snapshot that it stores is not deleted, and may be afterwards', async () => {
    const it = await savedOnce();
    const remove = () => it.world.volumes.delete('c1', { ...DELETE, snapshot: 'two' });
    let refused: Promise<unknown> | undefined;
    await saveNow(it.world, 'tue', {}, ({ phase }) => {
      if (phase === 'storing') refused ??= remove().catch((error) => error);
    });
    expect(await refused).toMatchObject({
      code: 'ERR_BUSY',
      message:
        "the snapshot 'c1@two' is used by 'collie cluster snapshot save'; " +
        'wait for its end, then delete it',
    });
    await it.world.deletions.finish(await remove());
    it.model.delete('c1@two');
    expect(await it.model.compare(it.world)).toEqual([]);
  });
});
