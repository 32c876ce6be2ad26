import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import { type ObjectName, oidBits, oidParts, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import type { BlockRun } from './origins.ts';

/**
 * The node's journal (FORMATS.md, "Journal"): segments of records. It is two things in one file, so
 * that one sync serves both: the activity log (which objects may differ after an unclean stop), and
 * the flush log (small changes, stable here before they are stable at home).
 */
const SEGMENT_MAGIC = 0x53_48_50_4a; // "SHPJ"
const RECORD_MAGIC = 0x53_48_50_52; // "SHPR"
const JOURNAL_VERSION = 2;
export const SEGMENT_HEADER_BYTES = BLOCK_BYTES;
const RECORD_HEADER_BYTES = 40;
const SUM_AT = 28;
const ENTRY_BYTES = 40;

export interface SegmentHeader {
  readonly storeId: string;
  readonly segment: number;
  /** Number of its first record. */
  readonly record: number;
  readonly bootId: string;
}

/**
 * - `list`: from now on the object may change in place at any time; `boot` says in which boot that
 *   began. `create`: the same for an object that is made (and whatever its name held is void).
 * - `retire`: it is clean and no longer listed.
 * - `data`, `hole`: what a flush promised of one block, until the object itself is stable.
 * - `homed`: the object itself is stable; what was said of it up to sequence `detail` is void.
 * - `remove`: it is gone, and so is what was said of it.
 * - `clean`: everything is stable: a clean stop. Nothing listed so far is in doubt; what is listed
 *   behind it, in the same record, still is.
 * - `reset`: the activity log so far is void; the entries after it in this record are all of it.
 *   With `detail` 1, written by a start: nothing said before is owed any more.
 * - `inherit`: behind its `create`, in one append: one page of the new object's origins.
 * - `zeroed`: these blocks are inherited no longer, and zeroes in them are zeroes.
 */
export const ENTRY = {
  list: 1,
  create: 2,
  retire: 3,
  data: 4,
  hole: 5,
  homed: 6,
  remove: 7,
  clean: 8,
  reset: 9,
  inherit: 10,
  zeroed: 11,
} as const;
export type EntryType = (typeof ENTRY)[keyof typeof ENTRY];

export interface JournalEntry {
  readonly type: EntryType;
  readonly name: ObjectName;
  readonly stamp: Stamp;
  readonly objectBytes: number;
  /**
   * Boot mark (`list`), life (`create`), block (`data`, `hole`), page (`inherit`), blocks (`zeroed`,
   * see packBlocks), or as said above.
   */
  readonly detail: bigint;
  /** `data`, `inherit`: the checksum entry of the block that goes with it. */
  readonly sum: number;
}

/** An entry with the place of its append among all appends: what `homed` refers to. */
export interface SequencedEntry extends JournalEntry {
  readonly sequence: number;
}

/** A block of bytes stands behind the head of the record for each entry of these types. */
export function hasBlock({ type }: Pick<JournalEntry, 'type'>): boolean {
  return type === ENTRY.data || type === ENTRY.inherit;
}

/** Which blocks a `zeroed` means. */
export function packBlocks({ first, end }: BlockRun): bigint {
  return BigInt(first) | (BigInt(end - first) << 32n);
}
export function unpackBlocks(detail: bigint): BlockRun {
  const first = Number(detail & 0xffff_ffffn);
  return { first, end: first + Number(detail >> 32n) };
}

/** What one write of the journal makes stable: one or more appends. */
export interface JournalRecord {
  /** Counts records, so that a missing one shows. */
  readonly record: number;
  readonly entries: readonly SequencedEntry[];
}

/** 64 bits that tell one boot from another. */
export function bootMark(bootId: string): bigint {
  return createHash('sha256').update(bootId).digest().readBigUInt64BE();
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Writer(SEGMENT_HEADER_BYTES)
    .u32(SEGMENT_MAGIC)
    .u32(JOURNAL_VERSION)
    .u64(header.segment)
    .u64(header.record)
    .bytes(fixedText(header.storeId, 36))
    .bytes(fixedText(header.bootId, 36))
    .zeroes(SEGMENT_HEADER_BYTES - 100)
    .u32(0)
    .done();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(SEGMENT_HEADER_BYTES - 4, crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)));
  return bytes;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader {
  if (bytes.length < SEGMENT_HEADER_BYTES) throw bad('segment header is cut off');
  const reader = new Reader(bytes.subarray(0, SEGMENT_HEADER_BYTES));
  if (reader.u32('magic') !== SEGMENT_MAGIC) throw bad('not a journal segment');
  const sum = new DataView(bytes.buffer, bytes.byteOffset).getUint32(SEGMENT_HEADER_BYTES - 4);
  if (crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)) !== sum) {
    throw bad('segment header checksum does not fit');
  }
  const version = reader.u32('version');
  if (version !== JOURNAL_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `the journal is of format ${version}, this sheep reads ${JOURNAL_VERSION}`,
      { found: version, known: JOURNAL_VERSION },
    );
  }
  const segment = reader.size('segment');
  const record = reader.size('record');
  const storeId = trimmedText(reader.bytes(36, 'store id'));
  const bootId = trimmedText(reader.bytes(36, 'boot id'));
  return { storeId, segment, record, bootId };
}

/** Bytes of a record with so many entries and so many blocks. */
export function recordBytesOf(entries: number, blocks: number): number {
  return headBytesOf(entries) + blocks * BLOCK_BYTES;
}
function headBytesOf(entries: number): number {
  return roundUp(RECORD_HEADER_BYTES + entries * ENTRY_BYTES, BLOCK_BYTES);
}

/**
 * The head of a record, to be followed by the blocks of its entries (`hasBlock`). These need no
 * further checksum: each carries its own in its entry. The entries' sequences are at most 65,535
 * apart.
 */
export function encodeRecordHead(
  segment: number,
  { record, entries }: JournalRecord,
): Uint8Array<ArrayBuffer> {
  const headBytes = headBytesOf(entries.length);
  const blocks = entries.reduce((sum, entry) => sum + (hasBlock(entry) ? 1 : 0), 0);
  const first = entries[0]?.sequence ?? 0;
  const out = new Writer(headBytes)
    .u32(RECORD_MAGIC)
    .u32(entries.length)
    .u64(record)
    .u64(segment)
    .u32(blocks)
    .u32(0) // checksum
    .u64(first);
  for (const entry of entries) {
    out
      .u8(entry.type)
      .u8(0)
      .u16(entry.sequence - first)
      .u32(entry.name.slot)
      .u64(oidBits(entry.name))
      .u32(entry.stamp.epoch)
      .u32(entry.stamp.attachEpoch)
      .u32(entry.objectBytes)
      .u64(entry.detail)
      .u32(entry.sum);
  }
  const bytes = out.zeroes(headBytes - RECORD_HEADER_BYTES - entries.length * ENTRY_BYTES).done();
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(SUM_AT, headSum(bytes));
  return bytes;
}

/**
 * How long the record is whose first block this is, or why none of this segment begins here.
 * Nothing is proven yet: the head's checksum covers the counts as well.
 */
export function recordExtent(
  firstBlock: Uint8Array,
  segment: number,
  room: number,
): { headBytes: number; recordBytes: number; record: number } | string {
  const view = new DataView(firstBlock.buffer, firstBlock.byteOffset, firstBlock.byteLength);
  if (view.getUint32(0) !== RECORD_MAGIC) return 'no record';
  if (view.getBigUint64(16) !== BigInt(segment)) return 'a record of another segment';
  const entryCount = view.getUint32(4);
  const headBytes = headBytesOf(entryCount);
  const recordBytes = recordBytesOf(entryCount, view.getUint32(24));
  if (recordBytes > room) return 'a record longer than its segment';
  return { headBytes, recordBytes, record: Number(view.getBigUint64(8)) };
}

/** The whole head of a record; undefined if its checksum does not fit. @throws `ERR_CORRUPT` */
export function decodeRecordHead(head: Uint8Array): JournalRecord | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (headSum(head) !== view.getUint32(SUM_AT)) return undefined;
  const reader = new Reader(head.subarray(32));
  const first = reader.size('sequence');
  const entries = Array.from({ length: view.getUint32(4) }, () => decodeEntry(reader, first));
  return { record: Number(view.getBigUint64(8)), entries };
}

function decodeEntry(reader: Reader, first: number): SequencedEntry {
  const type = reader.u8('entry type');
  if (type < ENTRY.list || type > ENTRY.zeroed) throw bad(`no entry is of type ${type}`);
  reader.u8('reserved');
  const sequence = first + reader.u16('order');
  const slot = reader.u32('slot');
  const name = { ...oidParts(reader.u64('oid')), slot };
  const stamp = { epoch: reader.u32('epoch'), attachEpoch: reader.u32('attach epoch') };
  const objectBytes = reader.u32('object size');
  const detail = reader.u64('detail');
  const sum = reader.u32('sum');
  return { type: type as EntryType, name, stamp, objectBytes, detail, sum, sequence };
}

/** Over the head with the checksum field taken as zero. */
function headSum(head: Uint8Array): number {
  return crc32(head.subarray(SUM_AT + 4), crc32(head.subarray(0, SUM_AT)));
}

function fixedText(text: string, length: number): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > length) throw bad(`"${text}" is longer than ${length} bytes`);
  const fixed = new Uint8Array(length);
  fixed.set(bytes);
  return fixed;
}
function trimmedText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function bad(why: string): SheepError {
  return new SheepError('ERR_CORRUPT', `journal: ${why}`);
}
