import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { StampedDisk } from './stamped-disk.ts';

const RUN = 9;

/** A disk of four blocks, what clients know of it and what the medium holds. */
function world() {
  const disk = new StampedDisk(4, RUN);
  const medium = new Uint8Array(disk.sizeBytes);
  /** A write that reaches the medium whole. */
  const write = (at: number, length: number) => {
    const { payload, answered } = disk.write(at, length);
    medium.set(payload, at);
    return answered;
  };
  return { disk, medium, write };
}

describe('a stamped disk, held against what a kill may leave', () => {
  test('nothing is wrong where every answered write is there', () => {
    const { disk, medium, write } = world();
    write(0, 3 * BLOCK_BYTES)();
    write(BLOCK_BYTES + 5, 2000)();
    disk.zero(2 * BLOCK_BYTES, BLOCK_BYTES)();
    medium.fill(0, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES);
    expect(disk.reopen(medium)).toEqual([]);
  });

  test('an answered write that is not there is named', () => {
    const { disk, medium, write } = world();
    write(0, BLOCK_BYTES)();
    disk.write(0, BLOCK_BYTES).answered();
    expect(disk.reopen(medium)).toEqual([
      'block 0 holds request 1 for block 0; allowed: request 2 for block 0',
    ]);
  });

  test('a write in flight may be there or not, block by block', () => {
    for (const blocks of [0, 1, 2]) {
      const { disk, medium } = world();
      const { payload } = disk.write(0, 2 * BLOCK_BYTES);
      medium.set(payload.subarray(0, blocks * BLOCK_BYTES), 0);
      expect(disk.reopen(medium)).toEqual([]);
    }
  });

  test('a torn block shows, of a write in flight and of an answered one', () => {
    const { disk, medium, write } = world();
    write(0, BLOCK_BYTES)();
    const { payload } = disk.write(0, BLOCK_BYTES);
    medium.set(payload.subarray(0, 512));
    expect(disk.reopen(medium)).toEqual([
      'block 0 holds (from 0 request 2 for block 0, from 512 request 1 for block 0); ' +
        'allowed: request 1 for block 0 or request 2 for block 0',
    ]);
  });

  test('of two writes in flight together either may be last', () => {
    for (const last of [0, 1]) {
      const { disk, medium } = world();
      const both = [disk.write(0, BLOCK_BYTES), disk.write(0, BLOCK_BYTES)];
      for (const { answered } of both) answered();
      medium.set(both[last]?.payload ?? [], 0);
      expect(disk.reopen(medium)).toEqual([]);
    }
  });

  test('a part of a block is written or not, and what was around it stays', () => {
    const { disk, medium, write } = world();
    write(0, BLOCK_BYTES)();
    const { payload } = disk.write(100, 1000);
    expect(disk.reopen(medium)).toEqual([]);
    const { payload: second, answered } = disk.write(300, 1000);
    answered();
    medium.set(payload, 100); // of the request before the kill: too late
    medium.set(second, 300);
    expect(disk.reopen(medium)).toHaveLength(1);
  });

  test('a trim leaves the parts of blocks at its ends', () => {
    const { disk, medium, write } = world();
    write(0, 3 * BLOCK_BYTES)();
    disk.trim(10, 2 * BLOCK_BYTES)();
    expect(disk.reopen(medium)).toEqual(['block 1 holds request 1 for block 1; allowed: zeroes']);
  });

  test('bytes of another block, and of another run, are no answer', () => {
    const { disk, medium, write } = world();
    const other = new StampedDisk(4, RUN + 1).write(BLOCK_BYTES, BLOCK_BYTES);
    write(0, 2 * BLOCK_BYTES)();
    medium.copyWithin(0, BLOCK_BYTES, 2 * BLOCK_BYTES);
    medium.set(other.payload, BLOCK_BYTES);
    expect(disk.reopen(medium)).toEqual([
      'block 0 holds request 1 for block 1; allowed: request 1 for block 0',
      'block 1 holds request 1 for block 1 of run 10; allowed: request 1 for block 1',
    ]);
  });

  test('a part of a block waits until nobody else is at that block', () => {
    const { disk } = world();
    const { answered } = disk.write(0, BLOCK_BYTES);
    expect(disk.isFree(0, 100)).toBe(false);
    expect(disk.isFree(0, BLOCK_BYTES)).toBe(true);
    answered();
    expect(disk.isFree(0, 100)).toBe(true);
    const patch = disk.write(0, 100);
    expect(disk.isFree(0, BLOCK_BYTES)).toBe(false);
    expect(disk.isFree(BLOCK_BYTES - 1, 1)).toBe(false);
    patch.answered();
    expect(disk.isFree(0, BLOCK_BYTES)).toBe(true);
  });
});
