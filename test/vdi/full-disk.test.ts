import { expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { codeOf } from '../farm/store.ts';
import { create, FamilyModel, write } from './family-model.ts';
import { filled, leaks, OBJECT_BLOCKS, openWorld, STORE } from './family-world.ts';
import { hooked } from './stores.ts';

const BLOCKS = 3 * OBJECT_BLOCKS;
const PLAIN = { durable: false };

/** base with a snapshot, both open; `arm` lets the n-th next write of this kind find the disk full. */
async function world() {
  const disk = new SimDisk({ directories: [STORE] });
  const due = { kind: 0, left: -1 };
  const world = await openWorld(disk, (store) =>
    hooked(store, (operation, [name]) => {
      if (operation !== 'write' || name?.kind !== due.kind) return;
      due.left -= 1;
      if (due.left === -1) throw new SheepError('ERR_NO_SPACE', 'as the test wants');
    }),
  );
  const model = new FamilyModel();
  await create(world, model, 'base', BLOCKS);
  await write(world, model, 'base', { first: 0, count: 4, value: 1 });
  await world.volumes.snapshot('base', 'one');
  model.snapshot('base', 'one');
  const arm = (kind: number, place: number) => Object.assign(due, { kind, left: place });
  return { ...world, disk, model, arm };
}

test.for([
  ['the object', KIND.data, 0],
  ['the copy of the leaf', KIND.inode, 0],
  ['the root that names the copy', KIND.inode, 1],
  ['the entry in the leaf', KIND.inode, 2],
] as const)(
  'a first write that finds no room for %s is refused, loses nothing, and succeeds later',
  async ([, kind, place]) => {
    const it = await world();
    const device = await it.device('base');
    it.arm(kind, place);
    const refused = () => device.write(BLOCK_BYTES, filled(1, 2), PLAIN);
    expect(await codeOf(refused)).toBe('ERR_NO_SPACE');
    expect(await it.model.compare(it)).toEqual([]);
    await write(it, it.model, 'base', { first: 2, count: 1, value: 3 });
    expect(await it.model.compare(it)).toEqual([]);
    await device.flush();
    await it.leaveAll();
    const cut = it.disk.powerCut('nothing');
    it.disk.halt();
    const next = await openWorld(cut);
    expect(await it.model.compare(next)).toEqual([]);
    await next.settle();
    expect(await leaks(cut, next)).toEqual([]);
  },
);

test('a snapshot that finds no room for its root leaves the VDI as it was, to be written and frozen', async () => {
  const it = await world();
  const device = await it.device('base');
  it.arm(KIND.inode, 0);
  expect(await codeOf(() => it.volumes.snapshot('base', 'two'))).toBe('ERR_NO_SPACE');
  await write(it, it.model, 'base', { first: 1, count: 1, value: 5 });
  await device.flush();
  expect(await it.model.compare(it)).toEqual([]);
  await it.volumes.snapshot('base', 'two');
  it.model.snapshot('base', 'two');
  await write(it, it.model, 'base', { first: 1, count: 2, value: 6 });
  expect(await it.model.compare(it)).toEqual([]);
  await it.settle();
  expect(await leaks(it.disk, it)).toEqual([]);
});

test.for(['clone', 'rollback'] as const)('a %s without room leaves nothing', async (kind) => {
  const it = await world();
  await it.leaveAll();
  it.arm(KIND.inode, 0);
  const act = () =>
    kind === 'clone'
      ? it.volumes.clone({ name: 'base', snapshot: 'one' }, 'new')
      : it.volumes.rollback('base', 'one');
  expect(await codeOf(act)).toBe('ERR_NO_SPACE');
  await it.settle();
  expect(await it.model.compare(it)).toEqual([]);
  expect(await leaks(it.disk, it)).toEqual([]);
  expect(await it.directory.deletions()).toEqual([]);
  await it.leaveAll();
  expect(await codeOf(act)).toBe('none');
});

test('on a full disk a clone is refused writes, what is there stays, and a deletion makes room', async () => {
  const disk = new SimDisk({ directories: [STORE], totalBytes: 24 * 2 ** 20 });
  const it = await openWorld(disk);
  const model = new FamilyModel();
  await create(it, model, 'base', 8 * OBJECT_BLOCKS);
  await write(it, model, 'base', { first: 0, count: OBJECT_BLOCKS, value: 1 });
  await it.volumes.snapshot('base', 'one');
  model.snapshot('base', 'one');
  const device = await it.device('base');
  let value = 1;
  for (let code = 'none'; code === 'none'; ) {
    value += 1;
    const first = ((value * 97) % 32) * 64;
    code = await codeOf(() => device.write(first * BLOCK_BYTES, filled(64, value), PLAIN));
    if (code === 'none') model.fill('base', first, 64, value);
    else expect(code).toBe('ERR_NO_SPACE');
    if (value === 200) break;
    if (value % 8 === 0) {
      const taken = await codeOf(() => it.volumes.snapshot('base', `t${value}`));
      if (taken === 'none') model.snapshot('base', `t${value}`);
    }
  }
  expect(value).toBeLessThan(200);
  expect(await model.compare(it)).toEqual([]);
  for (const name of model.snapshots) {
    await it.leave(name);
    const snapshot = name.split('@')[1] ?? '';
    const record = await it.volumes.delete('base', { snapshot, dryRun: false });
    await it.deletions.finish(record);
    model.delete(name);
  }
  await device.flush();
  await device.write(0, filled(64, 999), PLAIN);
  model.fill('base', 0, 64, 999);
  expect(await model.compare(it)).toEqual([]);
});
