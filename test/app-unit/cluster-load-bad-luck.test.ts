import { expect, test } from 'vitest';
import { loadSnapshot } from '../../src/app/cluster-snapshots/load.ts';
import { SheepError } from '../../src/base/errors.ts';
import { KIND } from '../../src/base/ids.ts';
import type { SnapDisk } from '../../src/farm/snapshots/snap-contents.ts';
import type { SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { nameAt, trunkShape } from '../../src/farm/snapshots/trunk-format.ts';
import { differingLeaves } from '../../src/farm/snapshots/trunk-reader.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, STORE } from '../vdi/family-world.ts';
import { hooked, type StoreFault } from '../vdi/stores.ts';
import { damage, saveNow } from './cluster-saves.ts';
import { ELSEWHERE, family, openCluster, SLICE_BYTES } from './cluster-world.ts';

/** A saved family, and another cluster with a VDI of its own that is in use; `fault` may strike it. */
async function two(fault: StoreFault = () => undefined) {
  const storeDisk = new SimDisk({ directories: [STORE] });
  const from = await openCluster(storeDisk);
  await family(from, new FamilyModel());
  const snap = (await saveNow(from, 'mon')).snap;
  const disk = new SimDisk({ directories: [STORE] });
  const options = { clusterId: ELSEWHERE, storeDisk };
  const world = await openCluster(disk, { ...options, wrap: (inner) => hooked(inner, fault) });
  const model = new FamilyModel();
  await create(world, model, 'other', 40);
  await write(world, model, 'other', { first: 2, count: 30, value: 7 });
  const { store } = world.parts;
  /** Nothing of the load is left, now and after a power cut; and what was there is. */
  const expectUntouched = async () => {
    await (await world.device('other')).flush();
    await world.settle();
    expect(await model.compare(world)).toEqual([]);
    expect(await leaks(disk, world)).toEqual([]);
    expect(await world.directory.all()).toMatchObject([{ name: 'other', state: 'ready' }]);
    const cut = disk.powerCut('nothing');
    const next = await openCluster(cut, options);
    expect(await model.compare(next)).toEqual([]);
    await next.settle();
    expect(await leaks(cut, next)).toEqual([]);
  };
  return { world, storeDisk, store, snap, model, expectUntouched };
}

async function sliceNames(store: SnapshotStore, { root, sizeBytes, objectBytes }: SnapDisk) {
  const { sliceBytes } = store.identity;
  const shape = trunkShape(sizeBytes, objectBytes, sliceBytes);
  const names: { leaf: number; names: Uint8Array }[] = [];
  for await (const { index, names: of } of differingLeaves(store, { root, shape })) {
    names.push({ leaf: index, names: of.slice() });
  }
  return names;
}

test('damage of a slice is told with its object, VDI and bytes, and nothing is left', async () => {
  const it = await two();
  const c1 = it.snap.disks.find(({ name, snapshot }) => name === 'c1' && snapshot === 'two')!;
  const [first] = await sliceNames(it.store, c1);
  const name = nameAt(first!.names, 0);
  await damage(it.storeDisk, it.store, name);
  const loading = loadSnapshot(it.world.parts, it.snap, {}, {}, () => undefined);
  await expect(loading).rejects.toMatchObject({
    code: 'ERR_CORRUPT',
    message: expect.stringMatching(
      new RegExp(
        `^'c1@two' cannot be loaded: bytes 0 to ${SLICE_BYTES - 1} of the disk are lost: ` +
          `object ${it.store.format(name)} .*damaged`,
      ),
    ),
    facts: expect.objectContaining({ vdi: 'c1@two', at: 0, length: SLICE_BYTES }),
  });
  await it.expectUntouched();
});

test('damage of a tree is told before anything is made, with the bytes that it stands for', async () => {
  const it = await two();
  const base = it.snap.disks.find(({ name, snapshot }) => name === 'base' && snapshot === '')!;
  await damage(it.storeDisk, it.store, base.root);
  let told = 0;
  const loading = loadSnapshot(it.world.parts, it.snap, {}, {}, () => {
    told += 1;
  });
  const end = base.sizeBytes - 1;
  await expect(loading).rejects.toMatchObject({
    code: 'ERR_CORRUPT',
    message: expect.stringMatching(
      `^'base' cannot be loaded: bytes 0 to ${end} of the disk are lost: object `,
    ),
  });
  expect(told).toBe(0);
  await it.expectUntouched();
});

test('another VDI of a damaged snapshot is loaded', async () => {
  const it = await two();
  const base = it.snap.disks.find(({ name, snapshot }) => name === 'base' && snapshot === '')!;
  await damage(it.storeDisk, it.store, base.root);
  const { parts } = it.world;
  const loaded = await loadSnapshot(parts, it.snap, { vdi: 'c1' }, {}, () => undefined);
  expect(loaded.made).toHaveLength(2);
});

/** Writes of these objects that the load of the family does at least. */
test.for([
  ['data', KIND.data, 15],
  ['an inode', KIND.inode, 20],
] as const)('a medium that is full at any write of %s leaves nothing', async ([, kind, writes]) => {
  for (let place = 0; place < writes; place += 3) {
    let left = Number.POSITIVE_INFINITY;
    const it = await two((operation, [name]) => {
      if (operation !== 'write' || name?.kind !== kind) return;
      left -= 1;
      if (left < 0) throw new SheepError('ERR_NO_SPACE', 'the disk is full');
    });
    left = place;
    const loading = loadSnapshot(it.world.parts, it.snap, {}, {}, () => undefined);
    await expect(loading).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    left = Number.POSITIVE_INFINITY;
    await it.expectUntouched();
  }
});

test('a load that is aborted leaves nothing, and can be had again', async () => {
  for (const disk of [1, 3, 5]) {
    const it = await two();
    const left = new AbortController();
    const loading = loadSnapshot(it.world.parts, it.snap, {}, left, (done) => {
      if (done.disk === disk) left.abort(new SheepError('ERR_SHUTDOWN', 'enough'));
    });
    await expect(loading).rejects.toMatchObject({ code: 'ERR_SHUTDOWN' });
    await it.expectUntouched();
    await loadSnapshot(it.world.parts, it.snap, {}, {}, () => undefined);
    expect(await it.world.directory.list()).toHaveLength(4);
  }
});
