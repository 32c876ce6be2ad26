import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KIND } from '../../src/base/ids.ts';
import { segmentPath } from '../../src/farm/journal.ts';
import { turn } from '../base/turn.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { holding } from '../sim/disk-stories.ts';
import {
  blocks,
  CREATE,
  codeOf,
  DIRECTORY,
  DURABLE,
  nameOf,
  PLAIN,
  pathOf,
  SimStore,
  values,
} from './store.ts';

const A = nameOf(0);
const B = nameOf(1);
const VID = A.vid;

const failure = () => new SheepError('ERR_IO', 'as the test wants');

test('an object that a flush is not done with stays open: a flush by its name finds it', async () => {
  const { delay, hold, letGo } = holding(pathOf(B));
  const store = await SimStore.open({ disk: { delay } });
  const others = [2, 3, 4, 5, 6].map((index) => nameOf(index));
  for (const name of [...others, A, B]) await store.farm.write(name, 0, blocks(1, 9), CREATE);
  await store.rest();
  await store.farm.write(A, 0, blocks(1, 1), DURABLE);
  await store.farm.write(A, 0, blocks(1, 2), PLAIN);
  await store.farm.write(B, 0, blocks(8, 1), PLAIN);
  hold('sync');
  // So much that the files are synced: that of A is, and its journal still says otherwise.
  const all = store.farm.flush(VID);
  await turn();
  for (const name of others) expect(await values(store.farm, name, 1)).toBe('9');
  let settled = false;
  const one = store.farm.flush(VID, [A]).then(() => {
    settled = true;
  });
  await turn();
  expect(settled).toBe(false);
  letGo();
  await Promise.all([all, one]);
  // Then it may be closed again.
  for (const name of others) await values(store.farm, name, 1);
  expect(store.farm.stats().openObjects).toBeLessThanOrEqual(SMALL_LIMITS.openObjects);
  await store.powerCut();
  expect(await values(store.farm, A, 1)).toBe('2');
});

describe('while the next segment of the journal is begun', () => {
  const NEXT = segmentPath(DIRECTORY, 2);

  /** A store in whose journal nothing is owed, and a write of which the next segment is made. */
  async function untilRotation() {
    const held = holding(NEXT);
    const store = await SimStore.open({ disk: { delay: held.delay } });
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.rest();
    let attachEpoch = 1;
    const fill = async () => {
      for (let settled = true; settled; ) {
        settled = false;
        attachEpoch += 1;
        const stamp = { ...PLAIN.stamp, attachEpoch };
        const written = codeOf(() => store.farm.write(A, 0, blocks(1, 1), { ...PLAIN, stamp }));
        void written.then((code) => {
          settled = code === 'none';
        });
        await turn();
      }
    };
    return { store, fill, ...held };
  }

  test('the one before it stays: a kill leaves a store that opens', async () => {
    const { store, fill, hold, letGo } = await untilRotation();
    hold('sync');
    await fill();
    const maintaining = codeOf(() => store.farm.maintain());
    await turn();
    await store.kill();
    letGo();
    await maintaining;
    expect(await values(store.farm, A, 1)).toBe('1');
  });

  test('and that fails, the one before it stays, and whoever asks is told', async () => {
    const { store, fill } = await untilRotation();
    store.disk.injectFaults((operation, path) => {
      if (operation !== 'sync' || path !== NEXT) return undefined;
      return failure();
    });
    await fill();
    store.disk.injectFaults(() => undefined);
    expect(store.farm.failure).toMatchObject({ code: 'ERR_LOST' });
    for (let round = 0; round < 3; round += 1) {
      expect(await codeOf(() => store.farm.maintain())).toBe('ERR_LOST');
    }
    await store.kill();
    expect(await values(store.farm, A, 1)).toBe('1');
  });
});

test('a segment that was given back, and its folder not synced, is given back in the next round', async () => {
  const store = await SimStore.open();
  await store.farm.write(A, 0, blocks(1, 1), CREATE);
  await store.rest();
  const { journalBytes } = store.farm.stats();
  for (let time = 0; store.farm.stats().journalBytes === journalBytes; time += 1) {
    await store.farm.write(A, 0, blocks(1, time % 251), DURABLE);
  }
  await store.farm.flush(VID);
  let failures = 0;
  store.disk.injectFaults((operation, path) => {
    if (operation !== 'syncDirectory' || path !== `${DIRECTORY}/journal`) return undefined;
    failures += 1;
    if (failures > 1) return undefined;
    return failure();
  });
  await expect(store.farm.maintain()).rejects.toThrow('as the test wants');
  await store.farm.maintain();
  expect(store.farm.stats().journalBytes).toBe(journalBytes);
  await store.restart();
  expect(await codeOf(() => values(store.farm, A, 1))).toBe('none');
});

test('a folder of which one sync has failed is not taken for stable after another one', async () => {
  const other = nameOf(0, 6);
  const { delay, hold, letGo } = holding(pathOf(other));
  const store = await SimStore.open({ disk: { delay } });
  for (const name of [A, other]) await store.farm.write(name, 0, blocks(8, 1), CREATE);
  hold('sync');
  store.disk.failNext('syncDirectory', 'ERR_IO');
  const flushes = [VID, other.vid].map((vid) => codeOf(() => store.farm.flush(vid)));
  expect(await flushes[0]).toBe('ERR_LOST');
  letGo();
  expect(await flushes[1]).toBe('ERR_LOST');
});

test('nothing leaves the activity log before the entry that names it is stable', async () => {
  const node = nameOf(1, VID, KIND.inode);
  const { delay, hold, letGo } = holding(pathOf(node));
  const store = await SimStore.open({ disk: { delay } });
  await store.farm.write(node, 0, blocks(8, 1), CREATE);
  await store.rest();
  await store.farm.write(A, 0, blocks(1, 1), { ...CREATE, unowned: true });
  await store.farm.write(node, 0, blocks(8, 2), PLAIN);
  store.farm.owned(A);
  hold('sync');
  // So much that its file is synced, and nothing of it stands in the journal.
  const flushing = store.farm.flush(VID, [node]);
  await turn();
  const rounds = store.rest();
  await turn();
  const before = store.disk.powerCut('nothing');
  letGo();
  await Promise.all([flushing, rounds]);
  expect(store.farm.stats().listedObjects).toBe(0);
  const cut = await SimStore.on(before);
  expect(await values(cut.farm, node, 1)).toBe('1');
  expect(cut.farm.unsettled(VID)).toContainEqual(A);
});

test('a removed object whose file stays is not read, and goes after a clean stop too', async () => {
  const store = await SimStore.open();
  await store.farm.write(A, 0, blocks(1, 1), CREATE);
  await store.rest();
  await store.farm.write(A, 0, blocks(1, 2), PLAIN);
  store.disk.injectFaults((operation) => {
    if (operation !== 'remove') return undefined;
    return failure();
  });
  expect(await codeOf(() => store.farm.remove(A, PLAIN))).toBe('ERR_IO');
  expect(await codeOf(() => values(store.farm, A, 1))).toBe('ERR_MISSING');
  await store.restart();
  expect(store.farm.unsettled(VID)).toContainEqual(A);
  await store.farm.remove(A, PLAIN);
  expect(await store.disk.exists(pathOf(A))).toBe(false);
});
