import { crc32 } from 'node:zlib';
import type { Bitmap } from '../base/bitmap.ts';
import { SheepError } from '../base/errors.ts';
import type { Gate } from '../base/gate.ts';
import { formatOid, type ObjectName, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import type { ObjectExtent } from '../contracts/object-store.ts';
import { BlockTable } from './block-table.ts';
import {
  type BlockSums,
  HOLE,
  INHERITED,
  isZero,
  proves,
  UNPROVEN,
  ZERO_SUM,
} from './checksums.ts';
import type { JournalPoint } from './journal.ts';
import { giveMarks, type Marks, NO_MARKS, takeMarks } from './marks.ts';
import { blocksOf, dataAtOf, encodeHeader, HEADER_BYTES, originsAtOf } from './object-format.ts';
import type { Origins } from './origins.ts';

/**
 * One open object: its file, its table of checksums and what is known of each block. It decides
 * nothing about order or durability; that is farm.ts and flusher.ts.
 */
export class OpenObject {
  readonly key: number | string;
  readonly name: ObjectName;
  readonly objectBytes: number;
  readonly life: bigint;
  readonly file: DiskFile;
  /** Undefined: it inherits nothing. If it does, inheritance.ts reads it. */
  readonly origins: Origins | undefined;
  readonly #table: BlockTable;
  readonly #dataAt: number;
  readonly #sums: BlockSums;
  #marks: Marks;
  /** Header or table differ from the file for another reason than a changed block. */
  metaDirty = false;
  /** False until its directory was synced. */
  nameStable = true;
  stamp: Stamp;
  /** The stamp under which the activity log lists it: writes with this very stamp may go ahead. */
  listedUnder: Stamp | undefined;
  /** Somebody waits or works behind it; fast paths keep out. */
  gate: Gate | undefined;
  /** Bytes that are on their way to the medium ahead of the next sync. */
  begunBytes = 0;
  /** The round of maintenance in which it was last changed. */
  changedRound = 0;
  closed = false;
  /** How often it was looked up. */
  finds = 0;
  /** The memory that the open set counts for it. */
  countedBytes = 0;
  /** What the journal said of it up to this sequence stands in the file since its last sync. */
  homedUpTo: JournalPoint = { sequence: 0, segment: 0 };
  /** What the journal says of its name behind this is not about it: it is removed or replaced. */
  endsAt: JournalPoint | undefined;
  /** Flushes and syncs under way that it is part of: until they are done it stays open. */
  works = 0;
  /** A sync of this file is under way. */
  homing: Promise<void> | undefined;

  constructor(init: {
    key: number | string;
    name: ObjectName;
    objectBytes: number;
    life: bigint;
    stamp: Stamp;
    file: DiskFile;
    table: Uint32Array<ArrayBuffer>;
    sums: BlockSums;
    origins: Origins | undefined;
  }) {
    this.key = init.key;
    this.name = init.name;
    this.objectBytes = init.objectBytes;
    this.life = init.life;
    this.stamp = init.stamp;
    this.file = init.file;
    this.#table = new BlockTable(init.table);
    this.#sums = init.sums;
    this.origins = init.origins;
    this.#dataAt = dataAtOf(init.objectBytes);
    this.#marks = takeMarks(blocksOf(init.objectBytes));
  }

  get blocks(): number {
    return this.#marks.verified.length;
  }

  /** Blocks proven since they came from the disk, or written by this process. */
  get verified(): Bitmap {
    return this.#marks.verified;
  }
  /** Blocks whose newest state is stable nowhere yet. */
  get dirty(): Bitmap {
    return this.#marks.dirty;
  }
  /** Blocks whose newest state is not stable in this file. */
  get unhomed(): Bitmap {
    return this.#marks.unhomed;
  }

  /** What stands in a block, see checksums.ts. */
  entryOf(block: number): number {
    return this.#table.of(block);
  }

  /** The same of all, to be changed; not to be kept over a wait. */
  get table(): Uint32Array<ArrayBuffer> {
    return this.#table.entries;
  }

  /** Its table is going to be changed, and takes more memory from now on. */
  unfold(): void {
    this.#table.unfold();
  }
  /** The other way round, where that saves something. */
  fold(): void {
    this.#table.fold();
  }

  /** Of its table, its origins and its three bitmaps. */
  get heldBytes(): number {
    const origins = this.origins?.heldBytes ?? 0;
    return this.#table.heldBytes + origins + Math.ceil((3 * this.blocks) / 8);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.file.closeNow();
    this.#table.close();
    giveMarks(this.#marks);
    this.#marks = NO_MARKS;
  }

  /** The file alone says everything, on the medium. */
  get clean(): boolean {
    return (
      this.unhomed.count === 0 && !this.metaDirty && this.nameStable && this.homing === undefined
    );
  }

  /**
   * Fills `into` if everything is in the page cache and proven; false: use `read`.
   * @throws SheepError `ERR_CORRUPT`
   */
  readNow(at: number, into: Uint8Array): boolean {
    const first = Math.floor(at / BLOCK_BYTES);
    const end = Math.ceil((at + into.length) / BLOCK_BYTES);
    if (end === first + 1 && this.entryOf(first) === HOLE) {
      into.fill(0);
      return true;
    }
    if (!this.verified.hasAll(first, end)) return this.#readUnproven(at, into, first, end);
    return this.#readCached(at, into);
  }

  /** What lies behind the end of the file is a hole. A miss: what was proven has left memory. */
  #readCached(at: number, into: Uint8Array): boolean {
    const got = this.file.readNow(this.#dataAt + at, into);
    if (got < 0) {
      this.verified.clear();
      return false;
    }
    if (got < into.length) into.fill(0, got);
    return true;
  }

  /** Whole blocks are proven here; parts of blocks wait for `read`, which sees them whole. */
  #readUnproven(at: number, into: Uint8Array, first: number, end: number): boolean {
    if (at % BLOCK_BYTES !== 0 || into.length % BLOCK_BYTES !== 0) return false;
    if (!this.#readCached(at, into)) return false;
    this.#prove(into, first, end);
    return true;
  }

  /** @throws SheepError `ERR_CORRUPT`, `ERR_IO` */
  async read(at: number, into: Uint8Array): Promise<void> {
    const from = Math.floor(at / BLOCK_BYTES) * BLOCK_BYTES;
    const to = Math.ceil((at + into.length) / BLOCK_BYTES) * BLOCK_BYTES;
    const aligned = from === at && to === at + into.length;
    const whole = aligned ? into : new Uint8Array(to - from);
    const got = await this.file.read(this.#dataAt + from, whole);
    if (got < whole.length) whole.fill(0, got);
    this.#prove(whole, from / BLOCK_BYTES, to / BLOCK_BYTES);
    if (!aligned) into.set(whole.subarray(at - from, at - from + into.length));
  }

  #prove(whole: Uint8Array, first: number, end: number): void {
    for (let block = first; block < end; block += 1) {
      if (this.verified.has(block)) continue;
      const entry = this.entryOf(block);
      const bytes = whole.subarray(
        (block - first) * BLOCK_BYTES,
        (block - first + 1) * BLOCK_BYTES,
      );
      if (!proves(entry, bytes)) throw this.#damaged(block, 'checksum does not fit');
      this.verified.add(block);
    }
  }

  #damaged(block: number, why: string): SheepError {
    const oid = formatOid(this.name);
    return new SheepError('ERR_CORRUPT', `object ${oid} is damaged at block ${block}: ${why}`, {
      oid,
      block,
    });
  }

  /**
   * Whole blocks, into the page cache; returns how many of them are newly unhomed. After a failure,
   * here or in `zero`, `brokenOff` is due.
   */
  writeNow(at: number, from: Uint8Array): number {
    this.file.writeNow(this.#dataAt + at, from);
    const first = at / BLOCK_BYTES;
    this.#sums(from, this.table, first);
    return this.#changed(first, first + from.length / BLOCK_BYTES);
  }

  /** The sync that follows will find these blocks on their way to the medium. */
  beginSync(at: number, length: number): void {
    this.file.beginSyncNow(this.#dataAt + at, length);
    this.begunBytes += length;
  }

  /**
   * After a change that broke off each of its blocks holds its old or its new bytes. Says which, or,
   * where that cannot be told at once, that there is something; returns as `writeNow`.
   */
  brokenOff(at: number, length: number): number {
    const bytes = new Uint8Array(BLOCK_BYTES);
    const first = at / BLOCK_BYTES;
    const end = first + length / BLOCK_BYTES;
    for (let block = first; block < end; block += 1) {
      if (!this.#seesNow(block, bytes)) this.table[block] = UNPROVEN;
      else if (proves(this.table[block] as number, bytes)) continue;
      else if (isZero(bytes)) this.table[block] = this.#zeroesIn(block);
      else this.#sums(bytes, this.table, block);
    }
    const newlyUnhomed = this.#changed(first, end);
    if (this.origins !== undefined) this.verified.clear(); // isUnsure asks for it
    return newlyUnhomed;
  }

  /** What zeroes in the file mean that nobody wrote knowingly. */
  #zeroesIn(block: number): number {
    return this.origins === undefined || this.origins.vidOf(block) === 0 ? HOLE : INHERITED;
  }

  #seesNow(block: number, into: Uint8Array): boolean {
    try {
      return this.#readCached(block * BLOCK_BYTES, into);
    } catch {
      return false; // what it cannot read now, whoever reads next will be told of
    }
  }

  /** Whole blocks of the file become holes, or reserved zeroes; `zeroed` is due then. */
  async zero(at: number, length: number, keepAllocated: boolean): Promise<void> {
    if (keepAllocated) await this.file.zero(this.#dataAt + at, length);
    else await this.file.punch(this.#dataAt + at, length);
  }

  /** Returns as `writeNow`; whoever syncs is to be told in the same turn. */
  zeroed(at: number, length: number, keepAllocated: boolean): number {
    const first = at / BLOCK_BYTES;
    const end = first + length / BLOCK_BYTES;
    this.table.fill(keepAllocated ? ZERO_SUM : HOLE, first, end);
    return this.#changed(first, end);
  }

  #changed(first: number, end: number): number {
    this.verified.addRange(first, end);
    this.dirty.addRange(first, end);
    return this.unhomed.addRange(first, end);
  }

  /** How many of these blocks take new space when they are written. */
  holesIn(at: number, length: number): number {
    let holes = 0;
    const end = Math.ceil((at + length) / BLOCK_BYTES);
    for (let block = Math.floor(at / BLOCK_BYTES); block < end; block += 1) {
      const entry = this.entryOf(block);
      if (entry === HOLE || entry === INHERITED) holes += 1;
    }
    return holes;
  }

  isHole(at: number): boolean {
    return this.entryOf(Math.floor(at / BLOCK_BYTES)) === HOLE;
  }

  /**
   * The newest bytes of a block from the page cache; false if they are no longer there.
   * @throws SheepError `ERR_CORRUPT` if they changed in memory
   */
  copyBlockNow(block: number, into: Uint8Array): boolean {
    if (!this.#readCached(block * BLOCK_BYTES, into)) return false;
    if (!proves(this.entryOf(block), into)) {
      throw this.#damaged(block, 'it changed in the page cache');
    }
    return true;
  }

  /** What stands in its own file. */
  extents(at: number, length: number): ObjectExtent[] {
    const out: ObjectExtent[] = [];
    const end = at + length;
    for (let position = at; position < end; ) {
      let block = Math.floor(position / BLOCK_BYTES);
      const content = contentOf(this.entryOf(block));
      do block += 1;
      while (block * BLOCK_BYTES < end && contentOf(this.entryOf(block)) === content);
      const to = Math.min(end, block * BLOCK_BYTES);
      out.push({ length: to - position, content });
      position = to;
    }
    return out;
  }

  /** Header, table and origins as they are now, into the page cache, for the sync that follows. */
  writeMeta(): void {
    const bytes = new Uint8Array(this.#dataAt);
    this.#table.copyTo(new Uint32Array(bytes.buffer, HEADER_BYTES, this.blocks));
    const pageSums: number[] = [];
    for (let at = HEADER_BYTES; at < bytes.length; at += BLOCK_BYTES) {
      pageSums.push(crc32(bytes.subarray(at, at + BLOCK_BYTES)));
    }
    const { name, objectBytes, stamp, life, origins } = this;
    const originSums = origins?.pageSums() ?? [];
    bytes.set(encodeHeader({ name, objectBytes, stamp, life, pageSums, originSums }));
    if (origins?.dirty === true) this.file.writeNow(originsAtOf(objectBytes), origins.bytes);
    this.file.writeNow(0, bytes);
    if (origins !== undefined) origins.dirty = false;
    this.metaDirty = false;
  }
}

function contentOf(entry: number): ObjectExtent['content'] {
  if (entry === HOLE) return 'hole';
  return entry === ZERO_SUM ? 'zero' : 'data';
}
