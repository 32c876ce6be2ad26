import { crc32 } from 'node:zlib';
import { BLOCK_BYTES } from '../base/units.ts';

/**
 * One 32-bit entry per block: what stands in the block, and how to prove it. Three values are not
 * checksums; a sum that happens to be one of them is moved to the top of the range.
 */
export const HOLE = 0;
/** Written while checksums were off. */
export const UNPROVEN = 1;
const FIRST_SUM = 2;

/** The entry for a block, given its bytes (a multiple of nothing: exactly one block). */
export type BlockSum = (block: Uint8Array) => number;

export const crcSum: BlockSum = (block) => {
  const sum = crc32(block);
  return sum < FIRST_SUM ? sum + 0xffff_fffe : sum;
};

/** For `--checksums=off`: blocks are told apart from holes, and nothing else. */
export const noSum: BlockSum = () => UNPROVEN;

/** What a reserved block of zeroes carries. */
export const ZERO_SUM = crcSum(new Uint8Array(BLOCK_BYTES));

/** True if the entry says nothing against these bytes. */
export function proves(entry: number, block: Uint8Array): boolean {
  if (entry === UNPROVEN) return true;
  if (entry === HOLE) return isZero(block);
  return crcSum(block) === entry;
}

const zeroBlock = Buffer.alloc(BLOCK_BYTES);

export function isZero(block: Uint8Array): boolean {
  return zeroBlock.compare(block, 0, block.length, 0, block.length) === 0;
}
