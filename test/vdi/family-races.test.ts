import { expect, test } from 'vitest';
import { KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { CLIENT, filled, OBJECT_BLOCKS, OBJECT_BYTES, openWorld, STORE } from './family-world.ts';
import { hooked } from './stores.ts';

/** Deletions beside everything else: schedules that were found by thinking, not by chance. */

const PLAIN = { durable: false };
const newDisk = (name: string) => ({
  name,
  sizeBytes: 8 * OBJECT_BYTES,
  objectBytes: OBJECT_BYTES,
});
const turns = (ms = 20) => new Promise((resolve) => setTimeout(resolve, ms));

test('a leaf without objects of its own goes only when the reference away from it is stable', async () => {
  const disk = new SimDisk({ directories: [STORE] });
  const world = await openWorld(disk);
  await world.volumes.create(newDisk('d'));
  const device = await world.device('d');
  for (let index = 0; index < 4; index += 1) {
    await device.write(index * OBJECT_BYTES, filled(OBJECT_BLOCKS, 10 + index), PLAIN);
  }
  await device.flush();
  await world.volumes.snapshot('d', 'a');
  await device.trim(3 * OBJECT_BYTES, OBJECT_BYTES, PLAIN);
  await device.flush();
  // The leaf is b's now, and names no object of b's own; the first write copies it for the child.
  await world.volumes.snapshot('d', 'b');
  await device.write(2 * OBJECT_BYTES, filled(1, 77), PLAIN);
  const deleted = await world.volumes.delete('d', { snapshot: 'b', dryRun: false });
  await world.deletions.finish(deleted);

  const next = disk.powerCut('nothing');
  disk.halt();
  const after = await openWorld(next);
  const again = await after.device('d');
  const bytes = new Uint8Array(BLOCK_BYTES);
  const expected = [[10], [11], [12, 77], [0]];
  for (const [index, values] of expected.entries()) {
    await again.read(index * OBJECT_BYTES, bytes);
    const known = values.map((value) =>
      value === 0 ? new Uint8Array(BLOCK_BYTES) : filled(1, value),
    );
    expect(known, `object ${index}`).toContainEqual(bytes);
  }
});

test('what changed since a snapshot is not told from one that is deleted meanwhile', async () => {
  let hold: Promise<void> | undefined;
  const world = await openWorld(new SimDisk({ directories: [STORE] }), (store) => ({
    ...hooked(store, () => undefined),
    read: (name, at, into, call) => {
      const isLeafOfA = name.kind === KIND.inode && name.vid === 1 && name.index === 1;
      if (hold === undefined || !isLeafOfA) return store.read(name, at, into, call);
      const held = hold;
      hold = undefined;
      return held.then(() => store.read(name, at, into, call));
    },
  }));
  await world.volumes.create(newDisk('d'));
  const device = await world.device('d');
  for (let index = 0; index < 4; index += 1) {
    await device.write(index * OBJECT_BYTES, filled(OBJECT_BLOCKS, 10 + index), PLAIN);
  }
  await world.volumes.snapshot('d', 'a');
  await device.trim(3 * OBJECT_BYTES, OBJECT_BYTES, PLAIN);
  const { promise, resolve: letGo } = Promise.withResolvers<void>();
  hold = promise;
  const asked = device.describe?.('qemu:dirty-bitmap:a', 3 * OBJECT_BYTES, OBJECT_BYTES, 10);
  await turns();
  const deleted = await world.volumes.delete('d', { snapshot: 'a', dryRun: false });
  await world.deletions.finish(deleted);
  letGo();
  await expect(asked).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('an attached disk still knows its older snapshots when one between is gone', async () => {
  const world = await openWorld(new SimDisk({ directories: [STORE] }));
  await world.volumes.create(newDisk('d'));
  const device = await world.device('d');
  await device.write(0, filled(OBJECT_BLOCKS, 10), PLAIN);
  await world.volumes.snapshot('d', 'a');
  await device.write(OBJECT_BYTES, filled(2, 20), PLAIN);
  await world.volumes.snapshot('d', 'b');
  await world.leaveAll();
  const attached = await world.device('d');
  await attached.write(OBJECT_BYTES, filled(OBJECT_BLOCKS, 30), PLAIN);
  const ask = () => attached.describe?.('qemu:dirty-bitmap:a', 0, 3 * OBJECT_BYTES, 10);
  const before = await ask();
  const deleted = await world.volumes.delete('d', { snapshot: 'b', dryRun: false });
  await world.deletions.finish(deleted);
  expect(await ask()).toEqual(before);
  const second = await world.volumes.open('d', CLIENT);
  expect(second?.info.contexts).toContain('qemu:dirty-bitmap:a');
});

test('a clone onto a name that can be none is refused, and locks nothing', async () => {
  const world = await openWorld(new SimDisk({ directories: [STORE] }));
  await world.volumes.create(newDisk('d'));
  await world.volumes.snapshot('d', 'a');
  const clone = world.volumes.clone({ name: 'd', snapshot: 'a' }, 'd@1');
  await expect(clone).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
  expect((await world.volumes.open('d@a', CLIENT))?.info.readOnly).toBe(true);
});

test('a deletion that cannot be finished does not keep the others', async () => {
  const disk = new SimDisk({ directories: [STORE] });
  const first = await openWorld(disk);
  for (const name of ['bad', 'good']) {
    await first.volumes.create(newDisk(name));
    await (await first.device(name)).write(0, filled(4, 5), { durable: true });
  }
  await first.leaveAll();
  for (const name of ['bad', 'good']) await first.volumes.delete(name, { dryRun: false });
  await first.stop();
  const next = disk.kill();
  next.flipBit(`${STORE}/obj/01/1000000010000001`, 8192, 3); // the leaf of 'bad'
  const second = await openWorld(next);
  await second.deletions.start();
  await expect
    .poll(async () => (await second.directory.deletions()).map(({ name }) => name))
    .toEqual(['bad']);
  await second.stop();
});
