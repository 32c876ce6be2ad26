import { assert } from './assert.ts';

/** A fixed number of bits, counted as they change. One per block of an object. */
export class Bitmap {
  readonly length: number;
  readonly #words: Uint32Array;
  readonly #first: number;
  readonly #end: number;
  #count = 0;

  /** @param words  where the bits lie, all of them 0: `wordsFor(length)` words from `first` on */
  constructor(length: number, words = new Uint32Array(wordsFor(length)), first = 0) {
    this.length = length;
    this.#words = words;
    this.#first = first;
    this.#end = first + wordsFor(length);
    assert(this.#end <= words.length, 'the words hold these bits');
  }

  /** Three bitmaps of one length in one piece of memory: a typed array for each costs more. */
  static three(length: number): [Bitmap, Bitmap, Bitmap] {
    const size = wordsFor(length);
    const words = new Uint32Array(3 * size);
    const bitmap = (place: number) => new Bitmap(length, words, place * size);
    return [bitmap(0), bitmap(1), bitmap(2)];
  }

  /** How many are set. */
  get count(): number {
    return this.#count;
  }

  has(index: number): boolean {
    return ((this.#words[this.#first + (index >>> 5)] as number) & (1 << (index & 31))) !== 0;
  }

  /** True if every bit of `from` to `to - 1` is set. */
  hasAll(from: number, to: number): boolean {
    for (let index = from; index < to; index += 1) if (!this.has(index)) return false;
    return true;
  }

  /** Sets one; true if it was not set before. */
  add(index: number): boolean {
    const at = this.#first + (index >>> 5);
    const word = this.#words[at] as number;
    const bit = 1 << (index & 31);
    if ((word & bit) !== 0) return false;
    this.#words[at] = word | bit;
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
    let at = this.#first + (index >>> 5);
    let word = index < this.length ? (this.#words[at] as number) & (-1 << (index & 31)) : 0;
    while (word === 0) {
      at += 1;
      if (at >= this.#end) return this.length;
      word = this.#words[at] as number;
    }
    return (at - this.#first) * 32 + lowestBit(word);
  }

  clear(): void {
    if (this.#count === 0) return;
    this.#words.fill(0, this.#first, this.#end);
    this.#count = 0;
  }

  /** The indexes that are set, ascending. */
  *[Symbol.iterator](): Generator<number> {
    if (this.#count === 0) return;
    for (let at = this.#first; at < this.#end; at += 1) {
      for (let word = this.#words[at] as number; word !== 0; word &= word - 1) {
        yield (at - this.#first) * 32 + lowestBit(word);
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
