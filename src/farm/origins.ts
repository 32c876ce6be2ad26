import { crc32 } from 'node:zlib';
import type { Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { isZero } from './checksums.ts';
import { blocksOf, originsAtOf } from './object-format.ts';
import { giveTable, newTable, takeTable } from './tables.ts';
import { ValueRuns } from './value-runs.ts';

/** Blocks `first` to `end - 1`. */
export interface BlockRun {
  readonly first: number;
  readonly end: number;
}

/**
 * For each block of an object that inherits the vid whose object holds the bytes that nobody has
 * written here. That one holds them itself: a read never follows a chain, however many snapshots lie
 * between. An entry is only ever cleared, when the block becomes zeroes: until then zeroes in the
 * file mean that the block is inherited.
 */
export class Origins {
  readonly #blocks: number;
  /** 0 for none; folded up until some are cleared. */
  #folded: ValueRuns | undefined;
  #vids: Uint32Array<ArrayBuffer> | undefined;
  /** crc32 of each page, if it is known. */
  #pageSums: readonly number[] | undefined;
  /** The file has others. */
  dirty = false;

  /** @param vids  one for each block, 0 for none, in a buffer of whole pages; borrowed */
  constructor(vids: Uint32Array<ArrayBuffer>) {
    this.#blocks = vids.length;
    this.#folded = ValueRuns.from(vids);
    this.#pageSums = sumsOf(vids);
  }

  /** Nothing is inherited of what is all holes. */
  static of(sources: Uint32Array): Origins | undefined {
    if (sources.every((vid) => vid === 0)) return undefined;
    const vids = takeTable(sources.length);
    vids.set(sources);
    return taken(vids);
  }

  /** As they stand in the object's file; what lies behind its end is 0. */
  static async read(file: DiskFile, objectBytes: number): Promise<Origins> {
    const cached = Origins.readNow(file, objectBytes);
    if (cached !== undefined) return cached;
    const vids = takeTable(blocksOf(objectBytes));
    await file.read(originsAtOf(objectBytes), pageBytesOf(vids));
    return taken(vids);
  }

  /** The same, or undefined if it would have to wait. */
  static readNow(file: DiskFile, objectBytes: number): Origins | undefined {
    const vids = takeTable(blocksOf(objectBytes));
    if (file.readNow(originsAtOf(objectBytes), pageBytesOf(vids)) >= 0) return taken(vids);
    giveTable(vids);
    return undefined;
  }

  /** 0 for none. */
  vidOf(block: number): Vid {
    return this.#folded?.of(block) ?? (this.#vids?.[block] as number);
  }

  get none(): boolean {
    return this.#folded?.isAll(0) ?? this.#written().every((vid) => vid === 0);
  }

  get heldBytes(): number {
    return this.#folded?.byteLength ?? this.#written().buffer.byteLength;
  }

  clear(first: number, end: number): void {
    this.#vids = this.#written().fill(0, first, end);
    this.#folded = undefined;
    this.#pageSums = undefined;
    this.dirty = true;
  }

  /**
   * The blocks, from `first` on, whose new bytes are all zero although something else would be
   * inherited there: before that is written, the journal has to say it.
   */
  zeroesIn(first: number, bytes: Uint8Array): BlockRun[] {
    const runs: { first: number; end: number }[] = [];
    for (let at = 0, block = first; at < bytes.length; at += BLOCK_BYTES, block += 1) {
      if (!this.#becomesZero(block, bytes, at)) continue;
      const last = runs.at(-1);
      if (last?.end === block) last.end += 1;
      else runs.push({ first: block, end: block + 1 });
    }
    return runs;
  }

  /** True if there are any such blocks. */
  hasZeroesIn(first: number, bytes: Uint8Array): boolean {
    for (let at = 0, block = first; at < bytes.length; at += BLOCK_BYTES, block += 1) {
      if (this.#becomesZero(block, bytes, at)) return true;
    }
    return false;
  }

  #becomesZero(block: number, bytes: Uint8Array, at: number): boolean {
    if (bytes[at] !== 0 || this.vidOf(block) === 0) return false;
    return isZero(bytes.subarray(at, at + BLOCK_BYTES));
  }

  /** As they stand in the file: whole pages; not to be kept over a wait. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return pageBytesOf(this.#written());
  }

  pageSums(): readonly number[] {
    this.#pageSums ??= sumsOf(this.#written());
    return this.#pageSums;
  }

  fits(pageSums: readonly number[]): boolean {
    return this.pageSums().every((sum, page) => sum === pageSums[page]);
  }

  #written(): Uint32Array<ArrayBuffer> {
    return this.#vids ?? (this.#folded as ValueRuns).fill(newTable(this.#blocks));
  }
}

/** Made of a table that is given back. */
function taken(vids: Uint32Array<ArrayBuffer>): Origins {
  const origins = new Origins(vids);
  giveTable(vids);
  return origins;
}

function pageBytesOf(vids: Uint32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(vids.buffer);
}

function sumsOf(vids: Uint32Array<ArrayBuffer>): number[] {
  return pagesIn(pageBytesOf(vids)).map((page) => crc32(page));
}

export function pagesIn(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_, page) =>
    bytes.subarray(page * BLOCK_BYTES, (page + 1) * BLOCK_BYTES),
  );
}
