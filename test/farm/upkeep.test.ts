import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { decodeHeader, HEADER_BYTES } from '../../src/farm/object-format.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { holding } from '../sim/disk-stories.ts';
import {
  blocks,
  CREATE,
  codeOf,
  contents,
  DIRECTORY,
  DURABLE,
  nameOf,
  PLAIN,
  pathOf,
  SimStore,
  values,
  ZERO,
} from './store.ts';

const A = nameOf(0);
const B = nameOf(1);
const VID = A.vid;
const LARGE = 8 * BLOCK_BYTES;

describe('the activity log', () => {
  test('forgets objects that have rested; after a kill there is no doubt about them', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(8, 1), CREATE);
    expect(store.farm.stats().listedObjects).toBe(2);
    await store.rest();
    expect(store.farm.stats()).toMatchObject({ listedObjects: 0, unsyncedBytes: 0 });
    await store.kill();
    expect(store.farm.unsettled(VID)).toEqual([]);
    await store.powerCut();
    expect(store.farm.unsettled(VID)).toEqual([]);
    expect(await values(store.farm, A)).toBe('1 1 1 1 1 1 1 1');
  });

  test('keeps what changes in every round, so that a busy object is listed once', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    for (let round = 0; round < 5; round += 1) {
      await store.farm.write(A, 0, blocks(1, round), PLAIN);
      await store.farm.maintain();
    }
    await store.kill();
    expect(store.farm.unsettled(VID)).toEqual([A]);
    expect(await values(store.farm, A, 1)).toBe('4');
  });

  test('lists again what is written again, before the write is answered', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.rest();
    await store.farm.write(A, 0, blocks(1, 2), PLAIN);
    await store.powerCut();
    expect(store.farm.unsettled(VID)).toEqual([A]);
  });

  test('keeps what was announced until it is removed, however long that takes', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.rest();
    await store.farm.announce([A], LARGE, PLAIN);
    await store.rest(6);
    expect((await store.kill()).unsettled(VID)).toEqual([A]);
    await store.farm.announce([A], LARGE, PLAIN);
    await store.farm.remove(A, PLAIN);
    await store.rest();
    expect(store.farm.stats().listedObjects).toBe(0);
  });

  test('keeps what was made unowned until it has an owner for a whole round', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), { ...CREATE, unowned: true });
    await store.rest(6);
    expect(store.farm.unsettled(VID)).toEqual([A]);
    store.farm.owned(A);
    await store.farm.maintain();
    expect(store.farm.unsettled(VID)).toEqual([A]);
    await store.rest();
    expect(store.farm.unsettled(VID)).toEqual([]);
  });

  test('and the journal stay short however much is removed', async () => {
    const store = await SimStore.open();
    const total = 3000;
    for (let index = 0; index < total; index += 1) {
      await store.farm.write(nameOf(index), 0, blocks(1, 1), CREATE);
      if (index % 500 === 0) await store.farm.maintain();
    }
    await store.rest();
    for (let first = 0; first < total; first += 250) {
      const names = Array.from({ length: 250 }, (_, place) => nameOf(first + place));
      await store.farm.announce(names, LARGE, PLAIN);
      await Promise.all(names.map((name) => store.farm.remove(name, PLAIN)));
      await store.farm.maintain();
      expect(store.farm.stats().listedObjects).toBeLessThanOrEqual(750);
    }
    await store.rest();
    expect(store.farm.stats()).toMatchObject({
      openObjects: 0,
      listedObjects: 0,
      unsyncedBytes: 0,
    });
    const journal = await store.disk.list(`${DIRECTORY}/journal`);
    expect(journal.filter((name) => name !== 'spare')).toHaveLength(1);
    expect(store.disk.tree.names.room.usedBlocks).toBeLessThan(100);
  });

  test('and the journal do not stay long because of a file that did not go at once', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.rest();
    store.disk.failNext('remove', 'ERR_IO');
    expect(await codeOf(() => store.farm.remove(A, PLAIN))).toBe('ERR_IO');
    expect(await codeOf(() => values(store.farm, A, 1))).toBe('ERR_MISSING');
    for (let time = 0; time < 400; time += 1) {
      await store.farm.write(B, 0, blocks(1, time % 251), time === 0 ? CREATE : DURABLE);
      if (time % 20 === 0) await store.farm.maintain();
    }
    await store.rest();
    expect(store.farm.stats()).toMatchObject({ listedObjects: 0, openObjects: 1 });
    expect(store.farm.stats().journalBytes).toBe(SMALL_LIMITS.segmentBytes);
    expect(await store.disk.exists(pathOf(A))).toBe(false);
    await store.powerCut();
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_MISSING');
  });

  test('outlives a clean stop, and what is in doubt or about to go stays however long it rests', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    await store.kill();
    await store.farm.write(B, 0, blocks(1, 2), PLAIN);
    await store.farm.write(nameOf(2), 0, blocks(1, 2), CREATE);
    await store.farm.announce([nameOf(2), nameOf(3)], LARGE, PLAIN);
    await store.restart();
    expect(store.farm.unsettled(VID)).toHaveLength(4);
    // Nobody has looked at these three yet.
    await store.rest();
    expect(store.farm.unsettled(VID)).toEqual([A, nameOf(2), nameOf(3)]);
  });
});

describe('open objects', () => {
  test('are few, however many are written and read', async () => {
    const store = await SimStore.open();
    const { openObjects, unsyncedObjects } = SMALL_LIMITS;
    const names = Array.from({ length: 60 }, (_, index) => nameOf(index));
    for (const [index, name] of names.entries()) {
      await store.farm.write(name, 0, blocks(1, index + 1), CREATE);
      expect(store.farm.stats().openObjects).toBeLessThanOrEqual(openObjects + unsyncedObjects);
    }
    await store.rest();
    expect(store.farm.stats().openObjects).toBeLessThanOrEqual(openObjects);
    for (const [index, name] of names.entries()) {
      expect(await values(store.farm, name, 2)).toBe(`${index + 1} 0`);
    }
    expect(store.farm.stats().openObjects).toBeLessThanOrEqual(openObjects);
  });

  test('are few after a kill too, when each that is read has its table made anew', async () => {
    const limits = { ...SMALL_LIMITS, listedObjects: 1000, unsyncedObjects: 1000 };
    const before = await SimStore.open({ limits });
    const names = Array.from({ length: 100 }, (_, index) => nameOf(index));
    for (const name of names) await before.farm.write(name, 0, blocks(1, 1), CREATE);
    const store = await SimStore.on(before.disk.kill());
    expect(store.farm.unsettled(VID)).toHaveLength(100);
    const { openObjects, unsyncedObjects } = SMALL_LIMITS;
    for (const name of names) {
      expect(await values(store.farm, name, 1)).toBe('1');
      expect(store.farm.stats().openObjects).toBeLessThanOrEqual(openObjects + unsyncedObjects);
    }
  });

  test('that are not stable stay open, and what a flush says of them is true', async () => {
    const store = await SimStore.open();
    const names = Array.from({ length: 12 }, (_, index) => nameOf(index));
    for (const name of names) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    await store.farm.flush(VID);
    for (const name of names) await store.farm.write(name, 0, blocks(1, 2), PLAIN);
    for (const name of names) expect(await values(store.farm, name, 1)).toBe('2');
    await store.farm.flush(VID);
    await store.powerCut();
    for (const name of names) expect(await values(store.farm, name, 1)).toBe('2');
  });
});

describe('changes that no sync covers', () => {
  test('are bounded: writes wait for the disk, and go on when it has caught up', async () => {
    const { delay, hold, letGo } = holding();
    const store = await SimStore.open({ disk: { delay } });
    const size = { ...CREATE, createBytes: 64 * LARGE };
    await store.farm.write(A, 0, blocks(1, 1), size);
    hold('sync');
    let answered = 0;
    const writes = Array.from({ length: 64 }, async (_, index) => {
      await store.farm.write(A, index * LARGE, blocks(8, 2), PLAIN);
      answered += 1;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(store.farm.stats().unsyncedBytes).toBeLessThanOrEqual(
      SMALL_LIMITS.unsyncedMaxBytes + LARGE,
    );
    expect(answered).toBeLessThan(64);
    expect(store.farm.stats().waitingChanges).toBeGreaterThan(0);
    letGo();
    await Promise.all(writes);
    expect(answered).toBe(64);
    expect(store.farm.stats().waitingChanges).toBe(0);
    await store.farm.flush(VID);
    await store.powerCut();
    expect(await values(store.farm, A, 64 * 8)).toBe(
      Array(64 * 8)
        .fill('2')
        .join(' '),
    );
  });

  test('are counted exactly: nothing is left when all is stable', async () => {
    const store = await SimStore.open();
    for (let step = 0; step < 200; step += 1) {
      const name = nameOf(step % 9);
      await store.farm.write(name, 0, blocks(1 + (step % 8), 1), step < 9 ? CREATE : PLAIN);
      if (step % 7 === 0) await store.farm.zero(name, 0, BLOCK_BYTES, ZERO);
      if (step % 11 === 0) await store.farm.flush(VID, [name]);
      if (step % 13 === 0) {
        await store.farm.remove(name, PLAIN);
        await store.farm.write(name, 0, blocks(1, 1), CREATE);
      }
    }
    await store.rest();
    expect(store.farm.stats().unsyncedBytes).toBe(0);
  });
});

describe('flushes', () => {
  async function counting() {
    const store = await SimStore.open();
    const syncs: string[] = [];
    store.disk.injectFaults((operation, path) => {
      if (operation === 'sync') syncs.push(path.split('/').at(-2) ?? path);
      return undefined;
    });
    return { store, syncs };
  }

  test('of little cost one sync of the journal, whatever the number of objects', async () => {
    const { store, syncs } = await counting();
    for (const name of [A, B, nameOf(2)]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    syncs.length = 0;
    await store.farm.flush(VID);
    expect(syncs).toEqual(['journal']);
  });

  test('at the same time share a sync, or find it done', async () => {
    const { store, syncs } = await counting();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    syncs.length = 0;
    const all = Array.from({ length: 20 }, () => store.farm.flush(VID));
    await Promise.all([...all, store.farm.write(A, 0, blocks(1, 2), DURABLE)]);
    expect(syncs.length).toBeLessThanOrEqual(2);
    syncs.length = 0;
    await store.farm.flush(VID);
    expect(syncs).toEqual([]);
  });

  test('of much sync the files themselves', async () => {
    const { store, syncs } = await counting();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(8, 1), CREATE);
    syncs.length = 0;
    await store.farm.flush(VID);
    expect(syncs.filter((folder) => folder !== 'journal').sort()).toEqual(['00', '01']);
  });

  test('of one VDI leave others alone', async () => {
    const { store, syncs } = await counting();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.farm.write(nameOf(3, VID + 1), 0, blocks(8, 1), CREATE);
    syncs.length = 0;
    await store.farm.flush(VID + 1);
    expect(syncs.filter((folder) => folder !== 'journal')).toEqual(['03']);
  });
});

test('an object carries the stamp of its last owner, its slot, and a life of its own', async () => {
  const store = await SimStore.open();
  const header = async () =>
    decodeHeader((await contents(store.disk, pathOf(A))).subarray(0, HEADER_BYTES));
  await store.farm.write(A, 0, blocks(1, 1), CREATE);
  const first = await header();
  expect(first).toMatchObject({ name: A, stamp: { epoch: 1, attachEpoch: 1 }, objectBytes: LARGE });
  const stamp = Object.freeze({ epoch: 3, attachEpoch: 9 });
  await store.farm.write(A, 0, blocks(1, 2), { stamp, durable: false });
  await store.rest();
  expect(await header()).toMatchObject({ stamp, life: first.life });
  await store.farm.write(A, 0, blocks(1, 2), CREATE);
  expect((await header()).life).not.toBe(first.life);
});
