import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, KiB } from '../base/units.ts';
import { XXH3_WASM } from './xxh3-wasm.ts';

/**
 * One 32-bit entry per block: what stands in the block, and how to prove it. Three values are not
 * sums; a sum that happens to be one of them is moved to the top of the range.
 */
export const HOLE = 0;
/** Written while checksums were off, or by a write that broke off. */
export const UNPROVEN = 1;
/** Nobody wrote it here: another object holds the bytes (origins.ts). Takes no space. */
export const INHERITED = 2;
const FIRST_SUM = 3;
const MOVED_BY = 2 ** 32 - FIRST_SUM;

/** Fills the entries from `first` on for whole blocks of `bytes`. */
export type BlockSums = (bytes: Uint8Array, entries: Uint32Array, first: number) => void;

/**
 * XXH3 by WebAssembly SIMD: four times as fast as the crc32 of zlib on a block, copy included
 * (ARCHITECTURE.md, "Checksums"). The memory: code's constants, then entries, then blocks.
 */
const ENTRIES_AT = 32 * KiB;
const BLOCKS_AT = 64 * KiB;
const AT_ONCE = 16;
const wasm = instantiate();

/** The little we use of it; the types of Node leave it out. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
  Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer };
};

function instantiate() {
  const module = new WebAssembly.Module(Buffer.from(XXH3_WASM, 'base64'));
  const { memory, sums } = new WebAssembly.Instance(module).exports;
  assert(memory instanceof WebAssembly.Memory, 'the module exports its memory');
  assert(typeof sums === 'function', 'the module exports sums');
  return {
    sums: sums as (at: number, blocks: number, out: number) => void,
    blocks: new Uint8Array(memory.buffer, BLOCKS_AT, AT_ONCE * BLOCK_BYTES),
    entries: new Uint32Array(memory.buffer, ENTRIES_AT, AT_ONCE),
  };
}

export const xxh3Sums: BlockSums = (bytes, entries, first) => {
  const step = AT_ONCE * BLOCK_BYTES;
  for (let at = 0, entry = first; at < bytes.length; at += step) {
    const length = Math.min(step, bytes.length - at);
    const count = length / BLOCK_BYTES;
    wasm.blocks.set(length === bytes.length ? bytes : bytes.subarray(at, at + length));
    wasm.sums(BLOCKS_AT, count, ENTRIES_AT);
    for (let index = 0; index < count; index += 1, entry += 1) {
      const sum = wasm.entries[index] as number;
      entries[entry] = sum < FIRST_SUM ? sum + MOVED_BY : sum;
    }
  }
};

/** For `--checksums=off`: blocks are told apart from holes, and nothing else. */
export const noSums: BlockSums = (bytes, entries, first) => {
  entries.fill(UNPROVEN, first, first + bytes.length / BLOCK_BYTES);
};

const single = new Uint32Array(1);

/** The entry of one block. */
export function blockSum(block: Uint8Array): number {
  xxh3Sums(block, single, 0);
  return single[0] as number;
}

/** What a reserved block of zeroes carries. */
export const ZERO_SUM = blockSum(new Uint8Array(BLOCK_BYTES));

/** True if the entry says nothing against these bytes. */
export function proves(entry: number, block: Uint8Array): boolean {
  if (entry === UNPROVEN) return true;
  if (entry === HOLE || entry === INHERITED) return isZero(block);
  return blockSum(block) === entry;
}

const zeroBlock = Buffer.alloc(BLOCK_BYTES);

export function isZero(block: Uint8Array): boolean {
  return zeroBlock.compare(block, 0, block.length, 0, block.length) === 0;
}
