import { assert } from './assert.ts';

/** A fixed number of bits, counted as they change. One per block of an object. */
export class Bitmap {
  readonly length: number;
  readonly #words: Uint32Array;
  #count = 0;

  /** @param words  where the bits lie, all of them 0: `wordsFor(length)` words */
  constructor(length: number, words = new Uint32Array(wordsFor(length))) {
    assert(words.length === wordsFor(length), 'the words hold these bits');
    this.length = length;
    this.#words = words;
  }

  /** So many bitmaps of one length in one piece of memory: a typed array for each costs more. */
  static several(count: number, length: number): Bitmap[] {
    const size = wordsFor(length);
    const all = new Uint32Array(count * size);
    return Array.from(
      { length: count },
      (_, place) => new Bitmap(length, all.subarray(place * size, (place + 1) * size)),
    );
  }

  /** How many are set. */
  get count(): number {
    return this.#count;
  }

  has(index: number): boolean {
    return ((this.#words[index >>> 5] as number) & (1 << (index & 31))) !== 0;
  }

  /** True if every bit of `from` to `to - 1` is set. */
  hasAll(from: number, to: number): boolean {
    for (let index = from; index < to; index += 1) if (!this.has(index)) return false;
    return true;
  }

  /** Sets one; true if it was not set before. */
  add(index: number): boolean {
    const word = this.#words[index >>> 5] as number;
    const bit = 1 << (index & 31);
    if ((word & bit) !== 0) return false;
    this.#words[index >>> 5] = word | bit;
    this.#count += 1;
    return true;
  }

  /** Sets `from` to `to - 1`; returns how many were not set before. */
  addRange(from: number, to: number): number {
    assert(from >= 0 && to <= this.length, 'a range of bits lies inside the bitmap');
    const before = this.#count;
    for (let index = from; index < to; index += 1) this.add(index);
    return this.#count - before;
  }

  /** The first one from `index` on that is set, or `length`; looks at 32 at a time. */
  next(index: number): number {
    let at = index >>> 5;
    let word = index < this.length ? (this.#words[at] as number) & (-1 << (index & 31)) : 0;
    while (word === 0) {
      at += 1;
      if (at >= this.#words.length) return this.length;
      word = this.#words[at] as number;
    }
    return at * 32 + lowestBit(word);
  }

  clear(): void {
    if (this.#count === 0) return;
    this.#words.fill(0);
    this.#count = 0;
  }

  /** The indexes that are set, ascending. */
  *[Symbol.iterator](): Generator<number> {
    if (this.#count === 0) return;
    for (let at = 0; at < this.#words.length; at += 1) {
      for (let word = this.#words[at] as number; word !== 0; word &= word - 1) {
        yield at * 32 + lowestBit(word);
      }
    }
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function wordsFor(length: number): number {
  return Math.ceil(length / 32);
}
