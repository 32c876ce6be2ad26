import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { Disk, DiskFile } from '../../src/contracts/disk.ts';
import type { DiskDelay } from '../../src/sim/sim-process.ts';
import { turn } from '../base/turn.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { holding } from '../sim/disk-stories.ts';
import {
  blocks,
  CREATE,
  codeOf,
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

/** A disk that counts what begins its way to the medium before it is synced. */
class BeginCounter {
  bytes = 0;

  disk(disk: Disk): Disk {
    return this.#watched(disk, 'open', async (opening: Promise<DiskFile>) =>
      this.#watched(await opening, 'beginSyncNow', (_, __, length) => {
        this.bytes += length as number;
      }),
    );
  }

  #watched<T extends object>(
    inner: T,
    method: keyof T,
    after: (result: never, ...args: unknown[]) => unknown,
  ): T {
    return new Proxy(inner, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        if (key !== method) return value.bind(target);
        return (...args: unknown[]) => after(value.apply(target, args) as never, ...args);
      },
    });
  }
}

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

  test('settles no earlier than one under way that took what was to be flushed', async () => {
    const { delay, hold, letGo } = holding();
    const store = await SimStore.open({ disk: { delay } });
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    hold('sync');
    const settled: string[] = [];
    const flush = async (name: string, flushed: Promise<void>) => {
      await flushed;
      settled.push(name);
    };
    const flushes = [
      flush('all', store.farm.flush(VID)),
      flush('all again', store.farm.flush(VID)),
      flush('one', store.farm.flush(VID, [A])),
    ];
    await turn();
    expect(settled).toEqual([]);
    // What has nothing to do with it does not wait for it.
    await store.farm.flush(VID + 1);
    letGo();
    await Promise.all(flushes);
    expect(settled).toHaveLength(3);
  });

  test.for(['is under way', 'fails'] as const)(
    'waits for a sync that began later, and took what it waited at the gate for: one that %s',
    async (how) => {
      const [punching, syncing] = [holding(), holding(pathOf(A))];
      const delay: DiskDelay = async (...operation) => {
        await Promise.all([punching.delay(...operation), syncing.delay(...operation)]);
      };
      const store = await SimStore.open({ disk: { delay } });
      await store.farm.write(A, 0, blocks(1, 1), CREATE);
      punching.hold('punch');
      const zeroing = store.farm.zero(A, BLOCK_BYTES, BLOCK_BYTES, ZERO);
      let settled = false;
      const flushing = codeOf(() => store.farm.flush(VID, [A])).finally(() => {
        settled = true;
      });
      await turn();
      syncing.hold('sync');
      // More files than the background leaves alone: it syncs the oldest.
      for (let index = 2; index < 7; index += 1) {
        await store.farm.write(nameOf(index), 0, blocks(1, 1), CREATE);
      }
      await turn();
      punching.letGo();
      await zeroing;
      await turn();
      expect(settled).toBe(false);
      if (how === 'fails') store.disk.failNext('sync', 'ERR_IO');
      syncing.letGo();
      expect(await flushing).toBe(how === 'fails' ? 'ERR_LOST' : 'none');
      await store.powerCut();
      if (how !== 'fails') expect(await values(store.farm, A)).toBe('1 0 0 0 0 0 0 0');
    },
  );

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

  test.for(['removed', 'made anew'] as const)(
    'that syncs an object while it is %s says nothing of what comes after',
    async (what) => {
      const { delay, hold, letGo } = holding();
      const store = await SimStore.open({ disk: { delay } });
      await store.farm.write(A, 0, blocks(8, 1), CREATE);
      await store.farm.flush(VID);
      await store.farm.write(A, 0, blocks(8, 2), PLAIN);
      hold('sync');
      const changing =
        what === 'removed'
          ? store.farm.remove(A, PLAIN)
          : store.farm.write(A, 0, blocks(1, 3), CREATE);
      await turn();
      // So much that the file itself is synced, while the journal still waits.
      const flushing = store.farm.flush(VID);
      await turn();
      letGo();
      await Promise.all([changing, flushing]);
      await store.farm.flush(VID);
      await store.powerCut();
      const shown =
        what === 'removed' ? codeOf(() => values(store.farm, A)) : values(store.farm, A);
      expect(await shown).toBe(what === 'removed' ? 'ERR_MISSING' : '3 0 0 0 0 0 0 0');
    },
  );
});

describe('a sync that fails', () => {
  /** Every sync of the object's own file fails; the journal's do not. */
  function failSyncsOf(store: SimStore, name: typeof A): void {
    store.disk.injectFaults((operation, path) =>
      operation === 'sync' && path === pathOf(name)
        ? new SheepError('ERR_IO', 'the medium does not take it')
        : undefined,
    );
  }

  test('fails its flush and all later ones, while reads go on and writes are refused', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    failSyncsOf(store, A);
    expect(store.farm.failure).toBeUndefined();
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
    expect(store.farm.failure?.code).toBe('ERR_LOST');
    store.disk.injectFaults(() => undefined);
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.flush(VID, [A]))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.flush(VID + 1))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.write(A, 0, blocks(1, 2), PLAIN))).toBe('ERR_LOST');
    expect(await values(store.farm, A)).toBe('1 1 1 1 1 1 1 1');
  });

  test('of the journal is no better', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    store.disk.failNext('sync', 'ERR_IO');
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.write(B, 0, blocks(1, 2), CREATE))).toBe('ERR_LOST');
    expect(await codeOf(() => store.farm.remove(A, PLAIN))).toBe('ERR_LOST');
    expect(await values(store.farm, A, 1)).toBe('1');
  });

  test.for(['a file', 'the journal'])(
    'of %s lets nothing pass for stable at the stop',
    async (what) => {
      const store = await SimStore.open();
      await store.farm.write(A, 0, blocks(1, 1), CREATE);
      await store.farm.flush(VID);
      if (what === 'a file') failSyncsOf(store, A);
      else store.disk.failNext('sync', 'ERR_IO');
      expect(await codeOf(() => store.rest())).toBe('ERR_LOST');
      store.disk.injectFaults(() => undefined);
      expect(await codeOf(() => store.rest())).toBe('ERR_LOST');
      expect(await codeOf(() => store.farm[Symbol.asyncDispose]())).toBe('ERR_LOST');
      // What a flush had promised stands in the journal, and nothing may have made that void.
      const after = await store.powerCut();
      expect(await values(after, A, 1)).toBe('1');
      expect(after.unsettled(VID)).toEqual([A]);
    },
  );

  test('leaves the object open and listed, however long it rests', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    await store.rest();
    expect(store.farm.stats().listedObjects).toBe(0);
    await store.farm.write(A, 0, blocks(8, 2), PLAIN);
    failSyncsOf(store, A);
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
    for (let round = 0; round < 4; round += 1) await codeOf(() => store.farm.maintain());
    expect(store.farm.stats().listedObjects).toBe(1);
    expect((await store.kill()).unsettled(VID)).toEqual([A]);
  });
});

describe('blocks of a write that is flushed soon', () => {
  test('begin their way at once, as many as the device takes, and again after the flush', async () => {
    const counter = new BeginCounter();
    const limits = { ...SMALL_LIMITS, begunMaxBytes: 10 * BLOCK_BYTES };
    const store = await SimStore.open({ limits, wrap: (disk) => counter.disk(disk) });
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    expect(counter.bytes).toBe(0);
    for (const name of [A, B]) {
      await store.farm.write(name, 0, blocks(8, 2), { ...PLAIN, flushFollows: true });
    }
    expect(counter.bytes).toBe(8 * BLOCK_BYTES);
    await store.farm.flush(VID);
    await store.farm.write(B, 0, blocks(8, 3), { ...PLAIN, flushFollows: true });
    expect(counter.bytes).toBe(16 * BLOCK_BYTES);
    await store.farm.flush(VID);
    await store.powerCut();
    expect(await values(store.farm, A)).toBe('2 2 2 2 2 2 2 2');
    expect(await values(store.farm, B)).toBe('3 3 3 3 3 3 3 3');
  });

  test('make room for others when their object is removed', async () => {
    const counter = new BeginCounter();
    const limits = { ...SMALL_LIMITS, begunMaxBytes: 10 * BLOCK_BYTES };
    const store = await SimStore.open({ limits, wrap: (disk) => counter.disk(disk) });
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    await store.farm.write(A, 0, blocks(8, 2), { ...PLAIN, flushFollows: true });
    await store.farm.remove(A, PLAIN);
    await store.farm.write(B, 0, blocks(8, 2), { ...PLAIN, flushFollows: true });
    expect(counter.bytes).toBe(16 * BLOCK_BYTES);
  });
});
