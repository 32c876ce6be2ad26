import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName, oidBits, oidParts, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import { OBJECT_BYTES_MAX } from './limits.ts';

/**
 * The file of one live object (FORMATS.md, "Object file"): a header block, the table of block
 * checksums, the data, and in an object that inherits its origins. All are covered by one sync of
 * one file.
 */
const OBJECT_MAGIC = 0x53_48_50_4f; // "SHPO"
const OBJECT_VERSION = 2;
export const HEADER_BYTES = BLOCK_BYTES;
const PAGE_SUMS_AT = 64;
const HEADER_SUM_AT = HEADER_BYTES - 4;
const ENTRIES_PER_PAGE = BLOCK_BYTES / 4;

export interface ObjectHeader {
  readonly name: ObjectName;
  readonly objectBytes: number;
  readonly stamp: Stamp;
  /** Drawn when it was made: tells one life of a name from another. */
  readonly life: bigint;
  /** crc32 of each 4 KiB page of the table. */
  readonly pageSums: readonly number[];
  /** The same of the origins, as many as the table has pages; none if it does not inherit. */
  readonly originSums: readonly number[];
}

export function blocksOf(objectBytes: number): number {
  return Math.ceil(objectBytes / BLOCK_BYTES);
}
/** Of the table, and of the origins if there are any. */
export function pagesOf(objectBytes: number): number {
  return Math.ceil(blocksOf(objectBytes) / ENTRIES_PER_PAGE);
}
/** Where the data begins: behind header and table, on a block's border. */
export function dataAtOf(objectBytes: number): number {
  return HEADER_BYTES + roundUp(blocksOf(objectBytes) * 4, BLOCK_BYTES);
}

/**
 * Where the origins begin: behind the data, so that all else lies where it does in an object that
 * inherits nothing, and can be found although the header cannot be read.
 */
export function originsAtOf(objectBytes: number): number {
  return dataAtOf(objectBytes) + roundUp(objectBytes, BLOCK_BYTES);
}

/** Where an object lies below the store: 256 folders by the low byte of its index. */
export function objectPath(directory: string, name: ObjectName): string {
  return `${objectDirectory(directory, name)}/${formatOid(name)}`;
}
export function objectDirectory(directory: string, name: ObjectName): string {
  return `${directory}/obj/${(name.index & 0xff).toString(16).padStart(2, '0')}`;
}

export function encodeHeader(header: ObjectHeader): Uint8Array<ArrayBuffer> {
  const out = new Writer(HEADER_BYTES)
    .u32(OBJECT_MAGIC)
    .u16(OBJECT_VERSION)
    .u8(1) // checksum of blocks: 1 = the low half of XXH3-64
    .u8(0) // codec of the data: 0 = as it is
    .u64(oidBits(header.name))
    .u32(header.name.slot)
    .u32(header.objectBytes)
    .u32(header.stamp.epoch)
    .u32(header.stamp.attachEpoch)
    .u64(header.life)
    .u64(0) // snapshot position, for the snapshot store
    .u32(header.originSums.length)
    .zeroes(PAGE_SUMS_AT - 52);
  const sums = [...header.pageSums, ...header.originSums];
  for (const sum of sums) out.u32(sum);
  const bytes = out.zeroes(HEADER_BYTES - PAGE_SUMS_AT - sums.length * 4).done();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(HEADER_SUM_AT, crc32(bytes.subarray(0, HEADER_SUM_AT)));
  return bytes;
}

/**
 * @throws SheepError `ERR_CORRUPT` for bytes that are no header (also a header whose checksum does
 * not fit), `ERR_VERSION` for one of another version.
 */
export function decodeHeader(bytes: Uint8Array): ObjectHeader {
  if (bytes.length !== HEADER_BYTES) throw bad('header is cut off', { length: bytes.length });
  const reader = new Reader(bytes);
  const magic = reader.u32('magic');
  if (magic !== OBJECT_MAGIC) throw bad('not an object file', { magic });
  const version = reader.u16('version');
  const sum = new DataView(bytes.buffer, bytes.byteOffset).getUint32(HEADER_SUM_AT);
  if (crc32(bytes.subarray(0, HEADER_SUM_AT)) !== sum) throw bad('header checksum does not fit');
  if (version !== OBJECT_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `the object file is of format ${version}, this sheep reads ${OBJECT_VERSION}`,
      { found: version, known: OBJECT_VERSION },
    );
  }
  const checksum = reader.u8('checksum kind');
  const codec = reader.u8('codec');
  if (checksum !== 1 || codec !== 0) throw bad('unknown checksum or codec', { checksum, codec });
  const parts = oidParts(reader.u64('oid'));
  const name = { ...parts, slot: reader.u32('slot') };
  const objectBytes = reader.u32('object size');
  if (objectBytes === 0 || objectBytes > OBJECT_BYTES_MAX) {
    throw bad('object size', { objectBytes });
  }
  const stamp = { epoch: reader.u32('epoch'), attachEpoch: reader.u32('attach epoch') };
  const life = reader.u64('life');
  reader.u64('snapshot position');
  const pages = pagesOf(objectBytes);
  const originPages = reader.u32('origin pages');
  if (originPages !== 0 && originPages !== pages) throw bad('origin pages', { originPages });
  reader.bytes(PAGE_SUMS_AT - 52, 'reserved');
  const sums = (length: number) => Array.from({ length }, () => reader.u32('page sum'));
  const pageSums = sums(pages);
  return { name, objectBytes, stamp, life, pageSums, originSums: sums(originPages) };
}

function bad(why: string, facts: Record<string, number> = {}): SheepError {
  return new SheepError('ERR_CORRUPT', `object file: ${why}`, facts);
}
