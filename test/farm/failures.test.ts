import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { Disk, DiskFile } from '../../src/contracts/disk.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import {
  blocks,
  CREATE,
  codeOf,
  DIRECTORY,
  nameOf,
  PLAIN,
  pathOf,
  SimStore,
  type StoreOptions,
  values,
  ZERO,
} from './store.ts';

const A = nameOf(0);
const VID = A.vid;

/** Changes of a file that take place in part, and fail. */
class BreakingOff {
  /** How many bytes the next change of an object's data reaches; none breaks off if undefined. */
  reaches: number | undefined;

  disk(disk: SimDisk): Disk {
    return new Proxy(disk, {
      get: (target, key) => {
        if (key === 'open')
          return async (...args: Parameters<Disk['open']>) =>
            this.#file(await target.open(...args), args[0]);
        if (key === 'openCachedNow')
          return (path: string) => {
            const file = target.openCachedNow(path);
            return file && this.#file(file, path);
          };
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  #file(file: DiskFile, path: string): DiskFile {
    if (!path.startsWith(`${DIRECTORY}/obj/`)) return file;
    const broken = () => new SheepError('ERR_IO', 'it broke off');
    const part = () => {
      const bytes = this.reaches;
      this.reaches = undefined;
      return bytes;
    };
    return new Proxy(file, {
      get: (target, key) => {
        if (key === 'writeNow')
          return (at: number, from: Uint8Array) => {
            const bytes = part();
            target.writeNow(at, bytes === undefined ? from : from.subarray(0, bytes));
            if (bytes !== undefined) throw broken();
          };
        if (key === 'punch' || key === 'zero')
          return async (at: number, length: number) => {
            const bytes = part();
            await target[key](at, bytes ?? length);
            if (bytes !== undefined) throw broken();
          };
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }
}

async function breakingStore(options: StoreOptions = {}) {
  const breaking = new BreakingOff();
  const store = await SimStore.open({ ...options, wrap: (disk) => breaking.disk(disk) });
  return { breaking, store };
}

const CACHES = [
  ['in the page cache', {}],
  ['not in the page cache', { cached: () => false }],
] as const;

describe.for(CACHES)('a change that breaks off in the middle, %s', ([, disk]) => {
  const KINDS = [
    ['write', (store: SimStore) => store.farm.write(A, 0, blocks(4, 2), PLAIN), '2 2 1 1'],
    ['zero', (store: SimStore) => store.farm.zero(A, 0, 4 * BLOCK_BYTES, ZERO), '0 0 1 1'],
    [
      'reserve',
      (store: SimStore) => store.farm.zero(A, 0, 4 * BLOCK_BYTES, { ...ZERO, keepAllocated: true }),
      '0 0 1 1',
    ],
  ] as const;

  test.for(KINDS)(
    '%s: each block holds its old or its new bytes, and can be read',
    async ([, change, shown]) => {
      const { store, breaking } = await breakingStore({ disk });
      await store.farm.write(A, 0, blocks(4, 1), CREATE);
      await store.farm.flush(VID);
      breaking.reaches = 2 * BLOCK_BYTES;
      expect(await codeOf(() => change(store))).toBe('ERR_IO');
      expect(await values(store.farm, A, 4)).toBe(shown);
      expect(await values(store.farm, A, 8)).toBe(`${shown} 0 0 0 0`);
    },
  );

  test.for(KINDS)(
    '%s: what is shown then is there after a flush and any stop',
    async ([, change, shown]) => {
      for (const stop of ['restart', 'kill', 'powerCut'] as const) {
        const { store, breaking } = await breakingStore({ disk });
        await store.farm.write(A, 0, blocks(4, 1), CREATE);
        await store.farm.flush(VID);
        breaking.reaches = 2 * BLOCK_BYTES;
        expect(await codeOf(() => change(store))).toBe('ERR_IO');
        await store.farm.flush(VID);
        await store[stop]();
        expect(await values(store.farm, A, 4)).toBe(shown);
      }
    },
  );

  test('of new blocks none passes for one that was written', async () => {
    const { store, breaking } = await breakingStore({ disk });
    await store.farm.write(A, 7 * BLOCK_BYTES, blocks(1, 1), CREATE);
    breaking.reaches = BLOCK_BYTES;
    expect(await codeOf(() => store.farm.write(A, 0, blocks(2, 3), PLAIN))).toBe('ERR_IO');
    expect(await values(store.farm, A)).toBe('3 0 0 0 0 0 0 1');
    await store.restart();
    expect(await values(store.farm, A)).toBe('3 0 0 0 0 0 0 1');
  });

  test('the object comes to rest again', async () => {
    const { store, breaking } = await breakingStore({ disk });
    await store.farm.write(A, 0, blocks(4, 1), CREATE);
    breaking.reaches = BLOCK_BYTES;
    expect(await codeOf(() => store.farm.write(A, 0, blocks(2, 3), PLAIN))).toBe('ERR_IO');
    await store.rest();
    expect(store.farm.stats()).toMatchObject({ listedObjects: 0, unsyncedBytes: 0 });
  });
});

describe('an object that cannot be made', () => {
  test.for(['open', 'write'] as const)(
    'because of its %s is not there, and owes nothing',
    async (operation) => {
      const store = await SimStore.open();
      const only = (op: string, path: string) =>
        op === operation && path === pathOf(A)
          ? new SheepError('ERR_IO', 'as the test wants')
          : undefined;
      store.disk.injectFaults(only);
      expect(await codeOf(() => store.farm.write(A, 0, blocks(1, 1), CREATE))).toBe('ERR_IO');
      store.disk.injectFaults(() => undefined);
      expect(await codeOf(() => values(store.farm, A))).toBe('ERR_MISSING');
      await store.rest();
      expect(store.farm.stats()).toMatchObject({
        openObjects: 0,
        listedObjects: 0,
        unsyncedBytes: 0,
      });
      await store.powerCut();
      expect(await codeOf(() => values(store.farm, A))).toBe('ERR_MISSING');
      await store.farm.write(A, 0, blocks(1, 2), CREATE);
      expect(await values(store.farm, A, 2)).toBe('2 0');
    },
  );
});

describe('an object that cannot be opened', () => {
  test('fails who asked, and is opened for the next', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.restart();
    store.disk.failNext('open', 'ERR_IO');
    const both = [values(store.farm, A, 1), values(store.farm, A, 1)].map((each) =>
      codeOf(() => each),
    );
    expect(await Promise.all(both)).toEqual(['ERR_IO', 'ERR_IO']);
    expect(await values(store.farm, A, 1)).toBe('1');
  });

  test('is opened once by all who ask at the same time', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.restart();
    let opens = 0;
    store.disk.injectFaults((operation, path) => {
      if (operation === 'open' && path === pathOf(A)) opens += 1;
      return undefined;
    });
    const shown = Promise.all(Array.from({ length: 5 }, () => values(store.farm, A, 1)));
    expect(await shown).toEqual(['1', '1', '1', '1', '1']);
    expect(opens).toBe(1);
  });
});
