import { describe, expect, test } from 'vitest';
import { holding } from '../sim/disk-stories.ts';
import { blocks, CREATE, codeOf, DURABLE, nameOf, SimStore, values, ZERO } from './store.ts';

const A = nameOf(0);
const B = nameOf(1);
const VID = A.vid;

/** Every promise that can settle has. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a flush beside other requests', () => {
  test('never puts an older state of a block behind a newer one', async () => {
    const { delay, hold, letGo } = holding();
    const store = await SimStore.open({ disk: { delay } });
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    hold('punch');
    const zeroing = store.farm.zero(B, 0, 4096, ZERO);
    // It has A at once, and waits for B, where somebody is busy.
    const flushing = store.farm.flush(VID);
    await turn();
    const written = store.farm.write(A, 0, blocks(1, 2), DURABLE);
    await turn();
    letGo();
    await Promise.all([zeroing, flushing, written]);
    await store.powerCut();
    expect(await values(store.farm, A)).toBe('2 0 0 0 0 0 0 0');
  });

  test('leaves nobody at the gate of an object it waited for', async () => {
    const { delay, hold, letGo } = holding();
    const store = await SimStore.open({ disk: { delay } });
    await store.farm.write(B, 0, blocks(1, 1), CREATE);
    hold('punch');
    const zeroing = store.farm.zero(B, 0, 4096, ZERO);
    const flushing = store.farm.flush(VID);
    await turn();
    letGo();
    await Promise.all([zeroing, flushing]);
    await store.rest();
    expect(store.farm.stats().listedObjects).toBe(0);
  });

  test('fails once everything it began has ended, when the journal breaks', async () => {
    const { delay, hold, letGo } = holding();
    const store = await SimStore.open({ disk: { delay } });
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    hold('punch');
    const zeroing = store.farm.zero(B, 0, 4096, ZERO);
    store.disk.failNext('sync', 'ERR_IO');
    const flushing = codeOf(() => store.farm.flush(VID));
    await turn();
    letGo();
    await zeroing;
    expect(await flushing).toBe('ERR_LOST');
  });
});
