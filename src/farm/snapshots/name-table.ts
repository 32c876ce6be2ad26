import { assert } from '../../base/assert.ts';
import { type ContentType, NAME_BYTES } from '../../base/content.ts';
import { INDEX_ENTRY_BYTES, TYPES } from './pack-format.ts';

/** Entries are kept in chunks of so many, so that growing copies nothing. */
const CHUNK_BITS = 12;
const CHUNK_ENTRIES = 2 ** CHUNK_BITS;
const WITHIN = CHUNK_ENTRIES - 1;

const NAME_WORDS = NAME_BYTES / 4;
/** A pack and a type share a word. */
const PACK_BITS = 28;
const PACKS_MAX = 2 ** PACK_BITS - 1;
/** The pack of an entry that was removed. */
const NOWHERE = PACKS_MAX;

interface Chunk {
  readonly names: Uint8Array;
  /** The same memory. */
  readonly nameWords: Uint32Array;
  /** Pack in the low bits, type above. */
  readonly places: Uint32Array;
  readonly offsets: Uint32Array;
  readonly storedBytes: Uint32Array;
  readonly rawBytes: Uint32Array;
}

/** Where an object lies. */
export interface Found {
  readonly type: ContentType;
  readonly pack: number;
  readonly offset: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
}

/**
 * Which pack holds what, for all objects of a store: a hash table over typed arrays, 48 bytes an
 * entry and 8 to 16 of table, because a million objects of JavaScript's would be 200 MB. Entries are
 * numbered as they come and keep their numbers, so that a collection marks them in a bitmap. A name
 * may be there several times: in two packs after a collection that was stopped.
 */
export class NameTable {
  #chunks: Chunk[] = [];
  #count = 0;
  /** Number of an entry plus 1, at its name's first word or behind it; 0: free. */
  #table = new Uint32Array(1024);

  /** How many entries there were ever: their numbers are below. */
  get count(): number {
    return this.#count;
  }

  /** The number of the first entry of this name, or of the next one behind `after`; -1: none. */
  find(name: Uint8Array, after = -1): number {
    const mask = this.#table.length - 1;
    let passed = after < 0;
    for (let slot = firstWord(name, 0) & mask; ; slot = (slot + 1) & mask) {
      const entry = (this.#table[slot] as number) - 1;
      if (entry < 0) return -1;
      if (!this.#holds(entry, name)) continue;
      if (passed) return entry;
      passed = entry === after;
    }
  }

  add(name: Uint8Array, found: Found): number {
    assert(found.pack < NOWHERE, 'there are fewer packs than that');
    const entry = this.#count;
    if ((entry & WITHIN) === 0) this.#chunks.push(newChunk());
    const chunk = this.#chunkOf(entry);
    const at = entry & WITHIN;
    chunk.names.set(name, at * NAME_BYTES);
    chunk.places[at] = found.pack + TYPES.indexOf(found.type) * 2 ** PACK_BITS;
    chunk.offsets[at] = found.offset;
    chunk.storedBytes[at] = found.storedBytes;
    chunk.rawBytes[at] = found.rawBytes;
    this.#count += 1;
    if (this.#count * 2 > this.#table.length) this.#growTable();
    else this.#enter(entry);
    return entry;
  }

  /**
   * Adds what an index of a pack says, without an object for each: a store is opened before anything
   * else is done with it.
   * @param bytes  as of `IndexEntries`
   */
  addIndex(bytes: Uint8Array, pack: number): void {
    assert(pack < NOWHERE, 'there are fewer packs than that');
    const entries = bytes.length / INDEX_ENTRY_BYTES;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let nth = 0; nth < entries; nth += 1) {
      const entry = this.#count;
      if ((entry & WITHIN) === 0) this.#chunks.push(newChunk());
      const chunk = this.#chunkOf(entry);
      const at = entry & WITHIN;
      const from = nth * INDEX_ENTRY_BYTES;
      for (let word = 0; word < NAME_WORDS; word += 1) {
        chunk.nameWords[at * NAME_WORDS + word] = words[from / 4 + word] as number;
      }
      chunk.offsets[at] = view.getUint32(from + 32);
      chunk.storedBytes[at] = view.getUint32(from + 36);
      chunk.rawBytes[at] = view.getUint32(from + 40);
      chunk.places[at] = pack + view.getUint8(from + 44) * 2 ** PACK_BITS;
      this.#count += 1;
      if (this.#count * 2 > this.#table.length) this.#growTable();
      else this.#enter(entry);
    }
  }

  /** The entry is there no more; its number is not given again. */
  remove(entry: number): void {
    const { places } = this.#chunkOf(entry);
    places[entry & WITHIN] = NOWHERE;
  }

  isThere(entry: number): boolean {
    return this.packOf(entry) !== NOWHERE;
  }

  packOf(entry: number): number {
    return (this.#chunkOf(entry).places[entry & WITHIN] as number) & PACKS_MAX;
  }

  typeOf(entry: number): ContentType {
    const place = this.#chunkOf(entry).places[entry & WITHIN] as number;
    return TYPES[place >>> PACK_BITS] as ContentType;
  }

  offsetOf(entry: number): number {
    return this.#chunkOf(entry).offsets[entry & WITHIN] as number;
  }

  storedBytesOf(entry: number): number {
    return this.#chunkOf(entry).storedBytes[entry & WITHIN] as number;
  }

  /** Borrowed. */
  nameOf(entry: number): Uint8Array {
    const at = (entry & WITHIN) * NAME_BYTES;
    return this.#chunkOf(entry).names.subarray(at, at + NAME_BYTES);
  }

  at(entry: number): Found {
    const { rawBytes } = this.#chunkOf(entry);
    return {
      type: this.typeOf(entry),
      pack: this.packOf(entry),
      offset: this.offsetOf(entry),
      storedBytes: this.storedBytesOf(entry),
      rawBytes: rawBytes[entry & WITHIN] as number,
    };
  }

  #holds(entry: number, name: Uint8Array): boolean {
    if (!this.isThere(entry)) return false;
    const { names } = this.#chunkOf(entry);
    const at = (entry & WITHIN) * NAME_BYTES;
    for (let byte = 0; byte < NAME_BYTES; byte += 1) {
      if (names[at + byte] !== name[byte]) return false;
    }
    return true;
  }

  #chunkOf(entry: number): Chunk {
    return this.#chunks[entry >>> CHUNK_BITS] as Chunk;
  }

  #enter(entry: number): void {
    const { names } = this.#chunkOf(entry);
    const mask = this.#table.length - 1;
    let slot = firstWord(names, (entry & WITHIN) * NAME_BYTES) & mask;
    while (this.#table[slot] !== 0) slot = (slot + 1) & mask;
    this.#table[slot] = entry + 1;
  }

  #growTable(): void {
    this.#table = new Uint32Array(this.#table.length * 2);
    for (let entry = 0; entry < this.#count; entry += 1) {
      if (this.isThere(entry)) this.#enter(entry);
    }
  }
}

/** A hash is as good as any part of it. */
function firstWord(names: Uint8Array, at: number): number {
  return (
    ((names[at] as number) |
      ((names[at + 1] as number) << 8) |
      ((names[at + 2] as number) << 16) |
      ((names[at + 3] as number) << 24)) >>>
    0
  );
}

function newChunk(): Chunk {
  const nameWords = new Uint32Array(CHUNK_ENTRIES * NAME_WORDS);
  return {
    names: new Uint8Array(nameWords.buffer),
    nameWords,
    places: new Uint32Array(CHUNK_ENTRIES),
    offsets: new Uint32Array(CHUNK_ENTRIES),
    storedBytes: new Uint32Array(CHUNK_ENTRIES),
    rawBytes: new Uint32Array(CHUNK_ENTRIES),
  };
}
