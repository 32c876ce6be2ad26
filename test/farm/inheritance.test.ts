import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { formatOid, type ObjectName } from '../../src/base/ids.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import { packBlocks, unpackBlocks } from '../../src/farm/journal-format.ts';
import { HEADER_BYTES, originsAtOf, pagesOf } from '../../src/farm/object-format.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import {
  blocks,
  CREATE,
  codeOf,
  DURABLE,
  failureOf,
  nameOf,
  OBJECT_BYTES,
  PLAIN,
  pathOf,
  read,
  SimStore,
  type StoreOptions,
  values,
  ZERO,
} from './store.ts';

const B = BLOCK_BYTES;
/** The same object in vid 4, which is frozen, and in others that come after it. */
const generation = (vid: number): ObjectName => ({ ...nameOf(0, 4), vid });
const P = generation(4);
const W = generation(5);
const FROM_P = { ...CREATE, inherits: P.vid };
const ORIGINS_AT = originsAtOf(OBJECT_BYTES);

/** P holds 1 to 8; W inherits all of it but for its first block, which holds 9. */
async function heir(options?: StoreOptions): Promise<SimStore> {
  const store = await SimStore.open(options);
  for (let block = 0; block < 8; block += 1) {
    const call = block === 0 ? CREATE : PLAIN;
    await store.farm.write(P, block * B, blocks(1, block + 1), call);
  }
  await store.farm.flush(P.vid);
  await store.farm.write(W, 0, blocks(1, 9), FROM_P);
  await store.farm.flush(W.vid);
  return store;
}

/** Nothing in doubt: both are held to their sums from now on. */
async function heirAtRest(): Promise<SimStore> {
  const store = await heir();
  await store.restart();
  return store;
}

describe('an object that inherits', () => {
  test('is read through the pool where its name is not in the cache', async () => {
    let cached = true;
    const store = await heir({ disk: { cached: () => cached } });
    await store.restart();
    cached = false;
    const one = new Uint8Array(B);
    const opening = store.farm.read(W, B, one);
    expect(opening).toBeInstanceOf(Promise);
    await opening;
    expect(one).toEqual(blocks(1, 2));
  });

  test('is read at once where it is, also if nothing is open yet', async () => {
    const store = await heirAtRest();
    const one = new Uint8Array(B);
    const all = new Uint8Array(8 * B);
    expect(store.farm.read(W, 2 * B, one)).toBeUndefined();
    expect(one).toEqual(blocks(1, 3));
    expect(store.farm.read(W, 0, all)).toBeUndefined();
    expect(store.farm.read(W, 5, all.subarray(5))).toBeUndefined();
    expect(all[5]).toBe(9);
    expect(all[8 * B - 1]).toBe(8);
    expect(store.farm.extents(W, 0, OBJECT_BYTES)).toEqual([
      { length: OBJECT_BYTES, content: 'data' },
    ]);
  });

  test('takes space for what is written and for nothing else', async () => {
    const store = await heirAtRest();
    const used = await usedBlocks(store.disk);
    await store.farm.write(W, 3 * B, blocks(1, 3), PLAIN);
    await store.farm.write(W, 3 * B, blocks(1, 4), PLAIN);
    expect((await usedBlocks(store.disk)) - used).toBe(1);
  });

  test('is read from two files however long the chain is', async () => {
    const opened: string[] = [];
    const store = await heir({ wrap: (disk) => watched(disk, opened) });
    const last = 55;
    for (let vid = 6; vid <= last; vid += 1) {
      await store.farm.write(generation(vid), B * (vid % 3), blocks(1, vid), {
        ...CREATE,
        inherits: vid - 1,
      });
    }
    await store.restart();
    opened.length = 0;
    expect(await read(store.farm, generation(last), 7 * B, B)).toEqual(blocks(1, 8));
    expect(opened).toEqual([pathOf(generation(last)), pathOf(P)]);
    expect(await values(store.farm, generation(last))).toBe('54 55 53 4 5 6 7 8');
  });

  test('is read, and told of, where there is room for one open object at a time', async () => {
    const store = await heir({ limits: { ...SMALL_LIMITS, openObjects: 1 } });
    await store.farm.write(generation(6), B, blocks(1, 6), { ...CREATE, inherits: W.vid });
    await store.restart();
    expect(await values(store.farm, generation(6))).toBe('9 6 3 4 5 6 7 8');
    await store.farm.read(generation(6), 0, new Uint8Array(8 * B));
    expect(await store.farm.extents(generation(6), 0, OBJECT_BYTES)).toEqual([
      { length: OBJECT_BYTES, content: 'data' },
    ]);
  });

  test('needs none of its ancestors that hold nothing for it', async () => {
    const store = await heir();
    await store.farm.write(generation(6), B, blocks(1, 6), { ...CREATE, inherits: W.vid });
    await store.farm.write(generation(7), 0, blocks(1, 7), { ...CREATE, inherits: 6 });
    await store.farm.flush(6);
    await store.farm.remove(W, PLAIN);
    expect(await values(store.farm, generation(7))).toBe('7 6 3 4 5 6 7 8');
    await store.farm.flush(7);
    await store.powerCut();
    expect(await values(store.farm, generation(7))).toBe('7 6 3 4 5 6 7 8');
    expect([...(await store.farm.sources(generation(7)))]).toEqual([7, 6, 4, 4, 4, 4, 4, 4]);
  });

  test('may be of 64 MiB, in one record of the journal', async () => {
    const store = await SimStore.open();
    const large = { ...CREATE, createBytes: 64 * MiB };
    // Something in each page of origins: the record is longer than a segment of these stores.
    const pages = pagesOf(64 * MiB);
    expect(pages).toBe(16);
    const places = Array.from({ length: pages }, (_, page) => page * 4 * MiB + page * 2 * B);
    places.push(5 * MiB, 64 * MiB - 2 * B);
    await store.farm.write(P, 0, blocks(1, 1), large);
    for (const at of places) await store.farm.write(P, at, blocks(2, 1), PLAIN);
    await store.farm.flush(P.vid);
    await store.farm.write(W, 5 * MiB, blocks(1, 2), { ...large, inherits: P.vid });
    await store.farm.zero(W, 64 * MiB - B, B, ZERO);
    await store.farm.flush(W.vid);
    for (const stop of ['powerCut', 'kill', 'restart'] as const) {
      await store[stop]();
      for (const at of places) {
        const expected = [at === 5 * MiB ? 2 : 1, at === 64 * MiB - 2 * B ? 0 : 1];
        const got = await read(store.farm, W, at, 2 * B);
        expect([got[0], got[B]]).toEqual(expected);
      }
      const sources = await store.farm.sources(W);
      expect([...new Set(sources)].toSorted()).toEqual([0, 4, 5]);
    }
  });
});

describe('what is wrong with what is inherited', () => {
  test('an origin that is not there is damage of the object that needs it', async () => {
    const store = await heirAtRest();
    await store.disk.remove(pathOf(P));
    const damage = {
      code: 'ERR_CORRUPT',
      message: expect.stringMatching(`${formatOid(W)} .*${formatOid(P)}`),
      facts: { oid: formatOid(W), missing: formatOid(P) },
    };
    const needs = [
      () => read(store.farm, W, B, B),
      () => read(store.farm, W, 0, 2 * B),
      () => store.farm.extents(W, 0, OBJECT_BYTES),
      () => store.farm.write(W, B + 1, blocks(1, 7), PLAIN),
      () => store.farm.zero(W, B + 1, 5, ZERO),
    ];
    for (const run of needs) expect(await failureOf(run)).toMatchObject(damage);
    expect(await values(store.farm, W, 1)).toBe('9');
    await store.farm.write(W, B, blocks(7, 3), PLAIN);
    expect(await values(store.farm, W)).toBe('9 3 3 3 3 3 3 3');
  });

  test('damaged origins are refused by name', async () => {
    const store = await heirAtRest();
    store.disk.flipBit(pathOf(W), ORIGINS_AT + 5, 3);
    for (const at of [0, B]) {
      expect(await failureOf(() => read(store.farm, W, at, B))).toMatchObject({
        code: 'ERR_CORRUPT',
        message: expect.stringMatching(`${formatOid(W)} .*does not fit its header`),
      });
    }
    expect(await values(store.farm, P)).toBe('1 2 3 4 5 6 7 8');
  });

  test('a damaged block of the origin is refused by the name of the origin', async () => {
    const store = await heirAtRest();
    store.disk.flipBit(pathOf(P), 2 * B + 3 * B + 1, 0);
    expect(await failureOf(() => read(store.farm, W, 3 * B, B))).toMatchObject({
      code: 'ERR_CORRUPT',
      facts: { oid: formatOid(P), block: 3 },
    });
    expect(await values(store.farm, W, 3)).toBe('9 2 3');
  });

  test('a suspect whose header cannot be read still knows what it inherits', async () => {
    const store = await heir();
    await store.farm.zero(W, 2 * B, B, ZERO);
    store.disk.flipBit(pathOf(W), 40, 0);
    await store.kill();
    expect(await values(store.farm, W)).toBe('9 2 0 4 5 6 7 8');
    await store.restart();
    expect(await values(store.farm, W)).toBe('9 2 0 4 5 6 7 8');
  });
});

describe('a block that becomes zeroes although something would be inherited there', () => {
  const PARTS = ['own', 'inherited'] as const;

  test.for(PARTS)('stays so after any stop, if it was %s', async (part) => {
    for (const stop of ['kill', 'powerCut', 'restart'] as const) {
      const store = await heir();
      if (part === 'own') await store.farm.write(W, 2 * B, blocks(1, 7), DURABLE);
      await store.farm.write(W, 2 * B, blocks(1, 0), PLAIN);
      await store.farm.zero(W, 4 * B, B, ZERO);
      await store.farm.zero(W, 6 * B, B, { ...ZERO, keepAllocated: true });
      if (stop === 'powerCut') await store.farm.flush(W.vid);
      await store[stop]();
      expect(await values(store.farm, W), stop).toBe('9 2 0 4 0 6 0 8');
      await store.rest();
      await store.kill();
      expect(await values(store.farm, W), stop).toBe('9 2 0 4 0 6 0 8');
    }
  });

  test('is one or the other if the disk refuses it, and stays what it is', async () => {
    for (const [operation, run] of [
      ['punch', (store: SimStore) => store.farm.zero(W, 0, 3 * B, ZERO)],
      ['write', (store: SimStore) => store.farm.write(W, 0, blocks(3, 0), PLAIN)],
    ] as const) {
      const store = await heir();
      failOnce(store, operation);
      expect(await codeOf(() => run(store))).toBe('ERR_IO');
      const shown = await values(store.farm, W);
      expect(shown).toMatch(/^(9|0) (2|0) (3|0) 4 5 6 7 8$/);
      await store.kill();
      expect(await values(store.farm, W)).toBe(shown);
    }
  });

  test('is what it was if the write breaks off, also where nothing of it can be seen at once', async () => {
    const store = await heir({ disk: { cached: () => false } });
    failOnce(store, 'write');
    expect(await codeOf(() => store.farm.write(W, B, blocks(2, 7), PLAIN))).toBe('ERR_IO');
    expect([...(await store.farm.sources(W))]).toEqual([5, 4, 4, 4, 4, 4, 4, 4]);
    expect(await values(store.farm, W)).toBe('9 2 3 4 5 6 7 8');
    failOnce(store, 'write');
    expect(await codeOf(() => store.farm.write(W, B, blocks(2, 7), PLAIN))).toBe('ERR_IO');
    expect(await values(store.farm, W)).toBe('9 2 3 4 5 6 7 8');
    await store.farm.flush(W.vid);
    await store.powerCut();
    expect(await values(store.farm, W)).toBe('9 2 3 4 5 6 7 8');
  });

  test('that cannot be looked at is told to whoever asked, and to nobody else', async () => {
    const store = await heir({ checksums: false });
    await store.restart();
    expect(await read(store.farm, W, 3 * B, B)).toEqual(blocks(1, 4)); // it is open
    failOnce(store, 'read');
    expect(await codeOf(async () => store.farm.sources(W))).toBe('ERR_IO');
    expect([...(await store.farm.sources(W))]).toEqual([5, 4, 4, 4, 4, 4, 4, 4]);
  });

  test('is told from what is inherited without checksums, too', async () => {
    const store = await heir({ checksums: false });
    await store.farm.write(W, 2 * B, blocks(1, 0), PLAIN);
    await store.farm.write(W, 3 * B, blocks(1, 7), PLAIN);
    for (const stop of ['restart', 'kill', 'restart'] as const) {
      await store[stop]();
      expect(await values(store.farm, W)).toBe('9 2 0 7 5 6 7 8');
      expect([...(await store.farm.sources(W))]).toEqual([5, 4, 5, 5, 4, 4, 4, 4]);
    }
  });
});

describe('recovery of objects that inherit', () => {
  test('makes one again whose header alone had reached the medium', async () => {
    const store = await SimStore.open();
    await store.farm.write(P, 0, blocks(8, 1), { ...CREATE, durable: true });
    await store.farm.write(W, 0, blocks(1, 9), { ...FROM_P, durable: true });
    const cut = store.disk.powerCut('everything');
    {
      await using file = await cut.open(pathOf(W));
      await file.write(HEADER_BYTES, new Uint8Array(ORIGINS_AT + B - HEADER_BYTES));
    }
    const next = await SimStore.on(cut);
    expect(await values(next.farm, W)).toBe('9 1 1 1 1 1 1 1');
  });

  test('can be cut short anywhere and run again', async () => {
    const store = await heir();
    await store.farm.zero(W, 2 * B, B, { ...ZERO, durable: true });
    await store.farm.write(generation(6), B, blocks(1, 6), {
      ...{ ...CREATE, inherits: W.vid, durable: true },
    });
    await store.farm.write(generation(6), 3 * B, blocks(1, 0), DURABLE);
    for (const stop of ['powerCut', 'kill'] as const) {
      const cut = stop === 'kill' ? store.disk.kill() : store.disk.powerCut('nothing');
      for (let operations = 0; ; operations += 1) {
        const again = stop === 'kill' ? cut.kill() : cut.powerCut('nothing');
        let left = operations;
        again.injectFaults(() => {
          left -= 1;
          if (left < 0) again.halt();
          return undefined;
        });
        const opened = await codeOf(() => SimStore.on(again));
        const next = await SimStore.on(
          operations % 2 === 0 ? again.powerCut('nothing') : again.kill(),
        );
        expect(await values(next.farm, W)).toBe('9 2 0 4 5 6 7 8');
        expect(await values(next.farm, generation(6))).toBe('9 6 0 0 5 6 7 8');
        if (opened === 'none') {
          expect(operations).toBeGreaterThan(10);
          break;
        }
      }
    }
  });
});

describe('on a full disk', () => {
  const LIMITS = { ...SMALL_LIMITS, reserveMinBytes: 512 * KiB, reserveMaxBytes: 512 * KiB };

  test('what is inherited stays, and nothing is left of what could not be made', async () => {
    const store = await heir({ limits: LIMITS, disk: { totalBytes: 2 * MiB } });
    const large = { ...PLAIN, createBytes: 4 * MiB };
    await store.farm.write(nameOf(1000), 0, blocks(1, 1), large);
    let code = 'none';
    for (let block = 1; code === 'none'; block += 1) {
      code = await codeOf(() => store.farm.write(nameOf(1000), block * B, blocks(1, 1), PLAIN));
    }
    const full = [
      () => store.farm.write(W, 3 * B, blocks(1, 7), PLAIN),
      () => store.farm.write(W, 3 * B + 1, blocks(1, 7), PLAIN),
      () => store.farm.zero(W, 3 * B + 1, 10, ZERO),
      () => store.farm.zero(W, 3 * B, B, { ...ZERO, keepAllocated: true }),
      () => store.farm.write(generation(6), 0, blocks(1, 6), { ...CREATE, inherits: W.vid }),
    ];
    for (const run of full) expect(await codeOf(run)).toBe('ERR_NO_SPACE');
    expect(await values(store.farm, W)).toBe('9 2 3 4 5 6 7 8');
    expect(await codeOf(() => values(store.farm, generation(6)))).toBe('ERR_MISSING');
    // What needs no space goes on.
    await store.farm.write(W, 0, blocks(1, 8), PLAIN);
    await store.farm.zero(W, 3 * B, B, ZERO);
    expect(await values(store.farm, W)).toBe('8 2 3 0 5 6 7 8');
  });
});

test('a run of blocks is the same after it was packed for the journal', () => {
  const runs = fc
    .tuple(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1))
    .map(([first, count]) => ({ first, end: first + count }));
  fc.assert(
    fc.property(runs, (run) => {
      expect(unpackBlocks(packBlocks(run))).toEqual(run);
    }),
  );
});

/** The next change of the object's own file is refused. */
function failOnce(store: SimStore, operation: 'punch' | 'read' | 'write'): void {
  let due = true;
  store.disk.injectFaults((asked, path) => {
    if (!due || asked !== operation || path !== pathOf(W)) return undefined;
    due = false;
    return new SheepError('ERR_IO', 'the disk refuses it');
  });
}

async function usedBlocks(disk: Disk): Promise<number> {
  const { totalBytes, freeBytes } = await disk.space('/store');
  return (totalBytes - freeBytes) / B;
}

/** The disk, with the paths noted that are opened on it. */
function watched(disk: Disk, opened: string[]): Disk {
  return new Proxy(disk, {
    get(inner, key) {
      const value = Reflect.get(inner, key, inner) as unknown;
      if (typeof value !== 'function') return value;
      return (...values: unknown[]) => {
        if (key === 'open' || key === 'openCachedNow') opened.push(String(values[0]));
        return Reflect.apply(value, inner, values) as unknown;
      };
    },
  });
}
