import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { compile } from '../../scripts/wasm/build.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { blockSum, HOLE, noSums, UNPROVEN, xxh3Sums } from '../../src/farm/checksums.ts';

/** The low half of what `xxhsum -H3` of xxHash 0.8.1 prints for the same 4096 bytes. */
const VECTORS: readonly [string, (index: number) => number, number][] = [
  ['zeroes', () => 0, 0x48c689ba],
  ['ones', () => 255, 0x73851dd6],
  ['a count', (index) => index & 255, 0x07879151],
  ['a mixture', (index) => (index * index * 31 + index * 7 + (index >> 8) * 13) & 255, 0xe0bee84d],
];

describe('the sum of a block', () => {
  test.for(VECTORS)('of %s is that of the reference program', ([, byte, expected]) => {
    expect(blockSum(Uint8Array.from({ length: BLOCK_BYTES }, (_, index) => byte(index)))).toBe(
      expected,
    );
  });

  test('of many blocks is that of each, however many there are', () => {
    const bytes = Uint8Array.from({ length: 37 * BLOCK_BYTES }, (_, index) => index % 251);
    const entries = new Uint32Array(40);
    xxh3Sums(bytes, entries, 2);
    const single = (block: number) =>
      blockSum(bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    const expected = Array.from({ length: 37 }, (_, block) => single(block));
    expect([...entries]).toEqual([0, 0, ...expected, 0]);
  });

  test('without checksums says only that there is something', () => {
    const entries = new Uint32Array(3);
    noSums(new Uint8Array(2 * BLOCK_BYTES), entries, 1);
    expect([...entries]).toEqual([HOLE, UNPROVEN, UNPROVEN]);
  });
});

test('the module in src/farm is what its source compiles to', async () => {
  const committed = await readFile(new URL('../../src/farm/xxh3-wasm.ts', import.meta.url), 'utf8');
  expect(await compile()).toBe(committed);
});
