/**
 * XXH3-64 of blocks of 4 KiB, seed 0, default secret (xxHash specification 0.2.0, section "XXH3
 * Algorithm Detail (large inputs)"), in AssemblyScript with SIMD. Compiled by build.ts into
 * src/farm/xxh3-wasm.ts; not TypeScript, so tsc and biome leave it alone.
 */

/** The default secret: constants of the algorithm. */
const SECRET: usize = memory.data<u8>([
  0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c,
  0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
  0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
  0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
  0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
  0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
  0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97,
  0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
  0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
  0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
  0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83,
  0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
  0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26,
  0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
  0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
  0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
]);
const PRIME32_1: u64 = 0x9e3779b1;
const PRIME32_2: u64 = 0x85ebca77;
const PRIME32_3: u64 = 0xc2b2ae3d;
const PRIME64_1: u64 = 0x9e3779b185ebca87;
const PRIME64_2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME64_3: u64 = 0x165667b19e3779f9;
const PRIME64_4: u64 = 0x85ebca77c2b2ae63;
const PRIME64_5: u64 = 0x27d4eb2f165667c5;

/** Two of the eight lanes take in 16 bytes: each adds low * high of the keyed word, and its
 * neighbour's word as it is. */
// @ts-ignore: decorator
@inline
function accumulate(acc: v128, data: v128, key: v128): v128 {
  const mixed = v128.xor(data, key);
  const low = v128.shuffle<u32>(mixed, mixed, 0, 2, 0, 2);
  const high = v128.shuffle<u32>(mixed, mixed, 1, 3, 1, 3);
  const swapped = v128.shuffle<u64>(data, data, 1, 0);
  return i64x2.add(acc, i64x2.add(i64x2.extmul_low_i32x4_u(low, high), swapped));
}

/** Between two KiB. */
// @ts-ignore: decorator
@inline
function scramble(acc: v128, key: v128): v128 {
  const mixed = v128.xor(v128.xor(acc, i64x2.shr_u(acc, 47)), key);
  return i64x2.mul(mixed, i64x2.splat(PRIME32_1));
}

/** The two halves of the 128-bit product, one upon the other. */
// @ts-ignore: decorator
@inline
function mulFold(a: u64, b: u64): u64 {
  const aLow = a & 0xffffffff;
  const aHigh = a >> 32;
  const bLow = b & 0xffffffff;
  const bHigh = b >> 32;
  const lowLow = aLow * bLow;
  const highLow = aHigh * bLow;
  const cross = (lowLow >> 32) + (highLow & 0xffffffff) + aLow * bHigh;
  const upper = (highLow >> 32) + (cross >> 32) + aHigh * bHigh;
  const lower = (cross << 32) | (lowLow & 0xffffffff);
  return lower ^ upper;
}

// @ts-ignore: decorator
@inline
function merge(acc: v128, at: usize): u64 {
  return mulFold(
    i64x2.extract_lane(acc, 0) ^ load<u64>(at),
    i64x2.extract_lane(acc, 1) ^ load<u64>(at + 8),
  );
}

function xxh3(at: usize): u64 {
  let a0 = i64x2(PRIME32_3, PRIME64_1);
  let a1 = i64x2(PRIME64_2, PRIME64_3);
  let a2 = i64x2(PRIME64_4, PRIME32_2);
  let a3 = i64x2(PRIME64_5, PRIME32_1);
  let p = at;
  for (let kib = 0; kib < 4; kib++) {
    // The last stripe is not taken in order: it ends the input, under a key of its own.
    const stripes = kib < 3 ? 16 : 15;
    let s = SECRET;
    for (let stripe = 0; stripe < stripes; stripe++) {
      a0 = accumulate(a0, v128.load(p, 0), v128.load(s, 0));
      a1 = accumulate(a1, v128.load(p, 16), v128.load(s, 16));
      a2 = accumulate(a2, v128.load(p, 32), v128.load(s, 32));
      a3 = accumulate(a3, v128.load(p, 48), v128.load(s, 48));
      p += 64;
      s += 8;
    }
    if (kib < 3) {
      a0 = scramble(a0, v128.load(SECRET, 128));
      a1 = scramble(a1, v128.load(SECRET, 144));
      a2 = scramble(a2, v128.load(SECRET, 160));
      a3 = scramble(a3, v128.load(SECRET, 176));
    }
  }
  a0 = accumulate(a0, v128.load(at, 4032), v128.load(SECRET, 121));
  a1 = accumulate(a1, v128.load(at, 4048), v128.load(SECRET, 137));
  a2 = accumulate(a2, v128.load(at, 4064), v128.load(SECRET, 153));
  a3 = accumulate(a3, v128.load(at, 4080), v128.load(SECRET, 169));
  let hash: u64 = 4096 * PRIME64_1;
  hash += merge(a0, SECRET + 11);
  hash += merge(a1, SECRET + 27);
  hash += merge(a2, SECRET + 43);
  hash += merge(a3, SECRET + 59);
  hash ^= hash >> 37;
  hash *= 0x165667919e3779f9;
  return hash ^ (hash >> 32);
}

/** The low 32 bits for each of `blocks` blocks at `at`, as u32 from `out` on. */
export function sums(at: usize, blocks: i32, out: usize): void {
  for (let block = 0; block < blocks; block++) {
    store<u32>(out, <u32>xxh3(at));
    at += 4096;
    out += 4;
  }
}
