import { describe, expect, test } from 'vitest';
import { GiB, KiB, MiB, TiB } from '../../src/base/units.ts';
import {
  checkLimits,
  FARM_LIMITS,
  limitsFor,
  reservedBytesOn,
  segmentBytesOn,
} from '../../src/farm/limits.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';

describe('on a disk of', () => {
  test.for([
    [64 * MiB, 4 * MiB, 24 * MiB],
    [256 * MiB, 4 * MiB, 24 * MiB],
    [GiB, 4 * MiB, 24 * MiB],
    [4 * GiB, 16 * MiB, 96 * MiB],
    [16 * GiB, 64 * MiB, 384 * MiB],
    [100 * GiB, 64 * MiB, 2 * GiB],
    [10 * TiB, 64 * MiB, 2 * GiB],
  ] as const)(
    '%i bytes a segment has %i, and %i are kept free',
    ([total, segmentBytes, reservedBytes]) => {
      expect(segmentBytesOn(total, FARM_LIMITS)).toBe(segmentBytes);
      expect(reservedBytesOn(total, FARM_LIMITS)).toBe(reservedBytes);
    },
  );

  test('any size the journal may grow to its limit, and a start find room, within the reserve', () => {
    for (let total = 32 * MiB; total < 64 * TiB; total *= 1.3) {
      const segmentBytes = segmentBytesOn(total, FARM_LIMITS);
      expect(segmentBytes % (4 * KiB)).toBe(0);
      expect(reservedBytesOn(total, FARM_LIMITS)).toBeGreaterThanOrEqual(
        (FARM_LIMITS.segmentsMax + 2) * segmentBytes,
      );
    }
  });
});

test('a process that may open few files opens few, and one with little memory dirties little', () => {
  for (const objectFiles of [240, 1024, 4096, 20_000, 1_048_576]) {
    for (const memoryBytes of [256 * MiB, 4 * GiB, TiB]) {
      const limits = limitsFor(objectFiles, memoryBytes);
      checkLimits(limits);
      const { openObjects, unsyncedObjects, unsyncedMaxBytes } = limits;
      expect(openObjects).toBeGreaterThanOrEqual(120);
      expect(openObjects + unsyncedObjects).toBeLessThanOrEqual(objectFiles);
      expect(unsyncedMaxBytes).toBeLessThanOrEqual(Math.max(64 * MiB, memoryBytes / 8));
    }
  }
});

test('limits that contradict each other are refused', () => {
  checkLimits(FARM_LIMITS);
  checkLimits(SMALL_LIMITS);
  for (const wrong of [
    { journalFlushBytes: 2 * MiB },
    { segmentBytes: 3 * MiB },
    { segmentBytes: 64 * MiB + 1 },
    { unsyncedBackgroundBytes: 2 * GiB },
    { openTableBytes: 100 },
  ]) {
    expect(() => checkLimits({ ...FARM_LIMITS, ...wrong })).toThrow(
      expect.objectContaining({ name: 'AssertionFailure' }),
    );
  }
});
