import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { ValueRuns } from '../../src/farm/value-runs.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { blocks, CREATE, nameOf, read, SimStore, ZERO } from './store.ts';

const values = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(0, 1, 2, 2 ** 32 - 1)), {
    minLength: 1,
    maxLength: 30,
  })
  .map((runs) => Uint32Array.from(runs.flatMap(([length, value]) => Array(length).fill(value))));

describe('runs of values', () => {
  test('say of each block what was said of it, and write it out again', () => {
    fc.assert(
      fc.property(values, (given) => {
        const runs = ValueRuns.from(given);
        expect([...given.keys()].map((block) => runs.of(block))).toEqual([...given]);
        expect(runs.fill(new Uint32Array(given.length))).toEqual(given);
        expect(runs.isAll(given[0] as number)).toBe(new Set(given).size === 1);
      }),
    );
  });

  test('are made if they are few, and not one more', () => {
    fc.assert(
      fc.property(values, (given) => {
        const count = ValueRuns.from(given).byteLength / 8;
        expect(ValueRuns.ifFew(given, count)?.fill(new Uint32Array(given.length))).toEqual(given);
        expect(ValueRuns.ifFew(given, count - 1)).toBeUndefined();
      }),
    );
  });
});

describe('an open object', () => {
  const OBJECT_BYTES = 4 * MiB;
  const OBJECTS = 60;
  const limits = { ...SMALL_LIMITS, openObjects: 100, openTableBytes: 256 * KiB };

  async function openAfterReadsOf(bytes: Uint8Array): Promise<number> {
    const store = await SimStore.open({ limits });
    const call = { ...CREATE, createBytes: OBJECT_BYTES };
    for (let index = 0; index < OBJECTS; index += 1) {
      await store.farm.write(nameOf(index), 0, bytes, call);
      await store.farm.flush(5);
    }
    await store.restart();
    for (let index = 0; index < OBJECTS; index += 1) {
      expect(await read(store.farm, nameOf(index), 0, 8)).toEqual(bytes.slice(0, 8));
    }
    return store.farm.stats().openObjects;
  }

  test('takes a page of memory if it is full, and next to nothing if it holds little', async () => {
    const many = new Uint8Array(130 * BLOCK_BYTES);
    for (let block = 0; block < 130; block += 1) {
      many.set(blocks(1, block + 1), block * BLOCK_BYTES);
    }
    expect(await openAfterReadsOf(many)).toBeLessThanOrEqual(38);
    expect(await openAfterReadsOf(blocks(1, 7))).toBe(OBJECTS);
  });

  test('is counted for what it holds also when it has been written, or its origins cleared', async () => {
    const store = await SimStore.open({ limits });
    const call = { ...CREATE, createBytes: OBJECT_BYTES };
    for (let index = 0; index < OBJECTS; index += 1) {
      const [below, above] = [nameOf(index, 4), nameOf(index, 5)];
      await store.farm.write(below, 0, blocks(256, 3), call);
      await store.farm.flush(4);
      await store.farm.write(above, 0, blocks(1, 4), { ...call, inherits: 4 });
      for (let block = 2; block < 40; block += 2) {
        await store.farm.zero(above, block * BLOCK_BYTES, BLOCK_BYTES, ZERO);
      }
    }
    await store.rest();
    // The origins, a page, and what two objects take themselves.
    expect(store.farm.stats().openObjects).toBeLessThanOrEqual(2 * Math.floor((256 * KiB) / 9_600));
    for (let index = 0; index < OBJECTS; index += 9) {
      expect(await read(store.farm, nameOf(index, 5), 0, 3 * BLOCK_BYTES)).toEqual(
        Uint8Array.of(...blocks(1, 4), ...blocks(1, 3), ...blocks(1, 0)),
      );
    }
  });

  test('is small again when it has left the activity log', async () => {
    const store = await SimStore.open({ limits });
    const call = { ...CREATE, createBytes: OBJECT_BYTES };
    for (let index = 0; index < 30; index += 1) {
      await store.farm.write(nameOf(index), 0, blocks(1, index + 1), call);
    }
    expect(store.farm.stats().openObjects).toBe(30);
    await store.rest();
    expect(store.farm.stats().listedObjects).toBe(0);
    for (let index = 30; index < OBJECTS; index += 1) {
      await store.farm.write(nameOf(index), 0, blocks(1, index + 1), call);
      await store.rest();
    }
    expect(store.farm.stats().openObjects).toBe(OBJECTS);
  });
});
