import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatOid,
  formatVid,
  INDEXES_MAX,
  KIND,
  objectKey,
  oidBits,
  oidParts,
  slotOf,
  VID_MAX,
} from '../../src/base/ids.ts';

/** The number of slots of a cluster, if nobody says another. */
const SLOTS = 1024;

const parts = fc.record({
  kind: fc.constantFrom(...Object.values(KIND)),
  vid: fc.integer({ min: 0, max: VID_MAX }),
  index: fc.nat(INDEXES_MAX - 1),
});

describe('the name of an object', () => {
  test('is 64 bits: kind, vid and index from the top', () => {
    expect(formatOid({ kind: KIND.data, vid: 1, index: 2 })).toBe('0000000010000002');
    expect(formatOid({ kind: KIND.inode, vid: VID_MAX, index: INDEXES_MAX - 1 })).toBe(
      '1fffffffffffffff',
    );
    expect(formatOid({ kind: KIND.attribute, vid: 0xabc, index: 0 })).toBe('200000abc0000000');
  });

  test('says its parts', () => {
    fc.assert(
      fc.property(parts, (name) => {
        expect(oidParts(oidBits(name))).toEqual(name);
      }),
    );
  });

  test('of a kind that does not exist is refused', () => {
    for (const kind of [3n, 15n]) {
      expect(() => oidParts(kind << 60n)).toThrow(
        expect.objectContaining({ code: 'ERR_BAD_FRAME' }),
      );
    }
  });

  test('has a key of its own, a number where one holds it', () => {
    const keys = new Map<number | string, string>();
    fc.assert(
      fc.property(parts, (name) => {
        const key = objectKey(name.kind, name.vid, name.index);
        if (typeof key === 'number') expect(Number.isSafeInteger(key)).toBe(true);
        const oid = formatOid(name);
        expect(keys.get(key) ?? oid).toBe(oid);
        keys.set(key, oid);
      }),
      { numRuns: 2000 },
    );
    expect(typeof objectKey(KIND.attribute, 2 ** 21 - 1, INDEXES_MAX - 1)).toBe('number');
    expect(typeof objectKey(KIND.data, 2 ** 21, 0)).toBe('string');
  });

  test('of a vid is 8 hex digits', () => {
    expect([1, VID_MAX].map(formatVid)).toEqual(['00000001', 'ffffffff']);
  });
});

describe('slots', () => {
  test('are where they have always been: objects would not be found otherwise', () => {
    const slots = [
      [1, 0],
      [1, 1],
      [1, 2],
      [42, 1000],
      [VID_MAX, INDEXES_MAX - 1],
      [7, INDEXES_MAX],
    ] as const;
    expect(slots.map(([family, index]) => slotOf(family, index))).toEqual([
      142, 594, 916, 267, 823, 158,
    ]);
  });

  test('are used evenly by the objects of one disk', () => {
    const counts = new Array<number>(SLOTS).fill(0);
    const objects = 100 * SLOTS;
    for (let index = 0; index < objects; index += 1) {
      const slot = slotOf(5, index);
      counts[slot] = (counts[slot] ?? 0) + 1;
    }
    expect(Math.min(...counts)).toBeGreaterThan(50);
    expect(Math.max(...counts)).toBeLessThan(160);
  });

  test('of fewer slots are within them; their number is a power of two', () => {
    for (let index = 0; index < 1000; index += 1) expect(slotOf(5, index, 8)).toBeLessThan(8);
    expect(() => slotOf(1, 1, 100)).toThrow('power of two');
  });
});
