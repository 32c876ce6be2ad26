import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../../base/bytes.ts';
import { SheepError } from '../../base/errors.ts';
import { BLOCK_BYTES, MiB, PiB } from '../../base/units.ts';

/** What the blocks are that changed since a snapshot; FORMATS.md, "Difference stream". */
const DIFFERENCE_MAGIC = Uint8Array.from('sheepdif', (letter) => letter.charCodeAt(0));
const VERSION = 1;
export const DIFFERENCE_HEADER_BYTES = 1024;
const HEADER_SUM_AT = 1020;
const TEXT_BYTES = 256;

const RECORD_MAGIC = 0x53485044; // SHPD
export const RECORD_HEAD_BYTES = 40;
const RECORD_SUM_AT = 36;
/** Of one record; so much memory is enough to check and to apply any stream. */
const RECORD_LENGTH_MAX = MiB;
const KIND = { data: 1, zero: 2, end: 3 } as const;

/** From which state of a disk to which. */
export interface DifferenceHeader {
  /** The VDI it was made from; it may be applied to one of another name. */
  readonly name: string;
  /** The snapshot that must be there already. */
  readonly baseTag: string;
  /** The snapshot that is there afterwards; '' if the stream was made from the VDI itself. */
  readonly tag: string;
  readonly baseSizeBytes: number;
  readonly sizeBytes: number;
}

/** One run of blocks that changed. */
export interface ChangeRecord {
  readonly kind: 'data' | 'zero';
  readonly at: number;
  readonly length: number;
  /** crc32 of what the base holds there; zeroes behind its end. */
  readonly baseSum: number;
  /** crc32 of the bytes that follow; 0 without any. */
  readonly sum: number;
}

/** Nothing follows; what the stream held altogether. */
export interface EndRecord {
  readonly kind: 'end';
  readonly records: number;
  readonly changedBytes: number;
}

/** Head of a stream, and the checksum with which the first record goes on. */
export function encodeDifferenceHeader(header: DifferenceHeader): Uint8Array<ArrayBuffer> {
  const writer = new Writer(DIFFERENCE_HEADER_BYTES)
    .bytes(DIFFERENCE_MAGIC)
    .u32(VERSION)
    .zeroes(4)
    .u64(header.baseSizeBytes)
    .u64(header.sizeBytes);
  for (const text of [header.name, header.baseTag, header.tag]) {
    const bytes = new TextEncoder().encode(text);
    writer.bytes(bytes).zeroes(TEXT_BYTES - bytes.length);
  }
  const bytes = writer.zeroes(HEADER_SUM_AT - 32 - 3 * TEXT_BYTES).done();
  return writer.u32(crc32(bytes)).done();
}

/** True if it may be a difference stream: whatever else it is then, it is damaged. */
export function isDifference(head: Uint8Array): boolean {
  return DIFFERENCE_MAGIC.every((byte, index) => head[index] === byte);
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodeDifferenceHeader(bytes: Uint8Array): DifferenceHeader {
  if (bytes.length < DIFFERENCE_HEADER_BYTES) throw damaged('it ends inside its header');
  const reader = new Reader(bytes.subarray(0, DIFFERENCE_HEADER_BYTES));
  if (!isDifference(reader.bytes(8, 'magic'))) throw damaged('it does not begin like one');
  const sum = new Reader(bytes.subarray(HEADER_SUM_AT)).u32('checksum');
  if (sum !== crc32(bytes.subarray(0, HEADER_SUM_AT))) throw damaged('its header is altered');
  const version = reader.u32('version');
  if (version !== VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `the difference stream is of version ${version}; this collie reads version ${VERSION}`,
      { version },
    );
  }
  reader.bytes(4, 'reserved');
  const [baseSizeBytes, sizeBytes] = [diskSize(reader), diskSize(reader)];
  const [name, baseTag, tag] = [text(reader), text(reader), text(reader)];
  if (name === '' || baseTag === '') throw damaged('it does not say what it is the difference of');
  return { name, baseTag, tag, baseSizeBytes, sizeBytes };
}

function diskSize(reader: Reader): number {
  const size = reader.u64('size');
  if (size < 1n || size > BigInt(PiB) || size % BigInt(BLOCK_BYTES) !== 0n) {
    throw damaged(`no disk has ${size} bytes`);
  }
  return Number(size);
}

function text(reader: Reader): string {
  const field = reader.bytes(TEXT_BYTES, 'text');
  const end = field.indexOf(0);
  const rest = end < 0 ? field : field.subarray(end);
  if (end < 0 || rest.some((byte) => byte !== 0)) throw damaged('a name in its header has no end');
  return new Reader(field).text(end, 'text');
}

/** The head of a record; `before`: the checksum at the end of the one before, or of the header. */
export function encodeRecordHead(
  record: ChangeRecord | EndRecord,
  before: number,
): Uint8Array<ArrayBuffer> {
  const end = record.kind === 'end';
  const writer = new Writer(RECORD_HEAD_BYTES)
    .u32(RECORD_MAGIC)
    .u8(KIND[record.kind])
    .zeroes(3)
    .u64(end ? record.records : record.at)
    .u64(end ? record.changedBytes : record.length)
    .u32(end ? 0 : record.baseSum)
    .u32(end ? 0 : record.sum)
    .zeroes(4);
  return writer.u32(crc32(writer.done(), before)).done();
}

/** The checksum at the end of a header or of the head of a record: the next one goes on with it. */
export function chainOf(bytes: Uint8Array): number {
  return new Reader(bytes.subarray(bytes.length - 4)).u32('checksum');
}

/** What a reader knows of the records so far. */
export interface SoFar {
  readonly header: DifferenceHeader;
  /** The checksum at the end of the last head. */
  readonly before: number;
  /** Where the last record ended. */
  readonly end: number;
  readonly records: number;
  readonly changedBytes: number;
}

/** @throws SheepError `ERR_CORRUPT`: it is altered, or not the next one */
export function decodeRecordHead(bytes: Uint8Array, soFar: SoFar): ChangeRecord | EndRecord {
  const where = `behind record ${soFar.records}`;
  const reader = new Reader(bytes.subarray(0, RECORD_HEAD_BYTES));
  const sum = crc32(bytes.subarray(0, RECORD_SUM_AT), soFar.before);
  if (reader.u32('magic') !== RECORD_MAGIC || chainOf(bytes) !== sum) {
    throw damaged(`what stands ${where} is altered, or does not belong there`);
  }
  const kind = reader.u8('kind');
  reader.bytes(3, 'reserved');
  const [first, second] = [reader.size('offset'), reader.size('length')];
  if (kind === KIND.end) {
    if (first === soFar.records && second === soFar.changedBytes) {
      return { kind: 'end', records: first, changedBytes: second };
    }
    throw damaged(`its end says ${first} records with ${second} bytes, and it has others`);
  }
  if (kind !== KIND.data && kind !== KIND.zero)
    throw damaged(`no record ${where} is of kind ${kind}`);
  const record: ChangeRecord = {
    kind: kind === KIND.data ? 'data' : 'zero',
    at: first,
    length: second,
    baseSum: reader.u32('base sum'),
    sum: reader.u32('sum'),
  };
  const { at, length } = record;
  const whole = at % BLOCK_BYTES === 0 && length % BLOCK_BYTES === 0;
  if (!whole || length < 1 || length > RECORD_LENGTH_MAX) {
    throw damaged(`the record ${where} has impossible bounds`);
  }
  if (at < soFar.end || at + length > soFar.header.sizeBytes) {
    throw damaged(`the record ${where} is not where the next one must be`);
  }
  return record;
}

export function damaged(what: string): SheepError {
  return new SheepError('ERR_CORRUPT', `the difference stream is damaged: ${what}`);
}
