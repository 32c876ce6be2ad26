import { crc32 } from 'node:zlib';
import type { Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { isZero } from './checksums.ts';
import { blocksOf, originsAtOf } from './object-format.ts';
import { giveTable, NO_TABLE, takeTable } from './tables.ts';

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
  #vids: Uint32Array<ArrayBuffer>;
  /** The file has others. */
  dirty = false;

  /** @param vids  one for each block, 0 for none, in a buffer of whole pages; kept */
  constructor(vids: Uint32Array<ArrayBuffer>) {
    this.#vids = vids;
  }

  /** Nothing is inherited of what is all holes. */
  static of(sources: Uint32Array): Origins | undefined {
    if (sources.every((vid) => vid === 0)) return undefined;
    const vids = takeTable(sources.length);
    vids.set(sources);
    return new Origins(vids);
  }

  /** As they stand in the object's file; what lies behind its end is 0. */
  static async read(file: DiskFile, objectBytes: number): Promise<Origins> {
    const cached = Origins.readNow(file, objectBytes);
    if (cached !== undefined) return cached;
    const origins = new Origins(takeTable(blocksOf(objectBytes)));
    await file.read(originsAtOf(objectBytes), origins.bytes);
    return origins;
  }

  /** The same, or undefined if it would have to wait. */
  static readNow(file: DiskFile, objectBytes: number): Origins | undefined {
    const origins = new Origins(takeTable(blocksOf(objectBytes)));
    if (file.readNow(originsAtOf(objectBytes), origins.bytes) >= 0) return origins;
    origins.close();
    return undefined;
  }

  /** 0 for none. */
  vidOf(block: number): Vid {
    return this.#vids[block] as number;
  }

  get none(): boolean {
    return this.#vids.every((vid) => vid === 0);
  }

  clear(first: number, end: number): void {
    this.#vids.fill(0, first, end);
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
    if (this.#vids[block] === 0 || bytes[at] !== 0) return false;
    return isZero(bytes.subarray(at, at + BLOCK_BYTES));
  }

  /** As they stand in the file: whole pages. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#vids.buffer);
  }

  /** crc32 of each page. */
  pageSums(): number[] {
    return pagesIn(this.bytes).map((page) => crc32(page));
  }

  fits(pageSums: readonly number[]): boolean {
    return this.pageSums().every((sum, page) => sum === pageSums[page]);
  }

  /** Nobody may use them any more. */
  close(): void {
    giveTable(this.#vids);
    this.#vids = NO_TABLE;
  }
}

export function pagesIn(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_, page) =>
    bytes.subarray(page * BLOCK_BYTES, (page + 1) * BLOCK_BYTES),
  );
}
