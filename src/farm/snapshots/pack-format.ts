import { crc32 } from 'node:zlib';
import { type CodecName, type ContentType, NAME_BYTES } from '../../base/content.ts';
import { SheepError } from '../../base/errors.ts';

/**
 * The bytes of a pack (FORMATS.md): a header, objects, an index of them in order of their names, and
 * a trailer, all big-endian. What is read is either as it was written or refused.
 */
const PACK_VERSION = 1;
export const PACK_HEADER_BYTES = 64;
export const OBJECT_HEADER_BYTES = 56;
export const INDEX_ENTRY_BYTES = 48;
export const TRAILER_BYTES = 64;
/** What a pack takes beside its objects and their entries. */
export const PACK_OVERHEAD_BYTES = PACK_HEADER_BYTES + TRAILER_BYTES;

const HEADER_MAGIC = 0x73686565_7061636bn; // "sheepack"
const TRAILER_MAGIC = 0x73686565_70696478n; // "sheepidx"
const OBJECT_MAGIC = 0x5348_504f; // "SHPO"

/** By the number that stands for them, in packs and in memory. */
export const TYPES: readonly ContentType[] = ['data', 'trunk', 'snap'];
const CODECS: readonly CodecName[] = ['none', 'zstd', 'zlib'];
const KINDS = ['data', 'tree'] as const;

/** Slices of disks, or what names them: so that whoever walks trees reads few files. */
export type PackKind = (typeof KINDS)[number];

export interface PackHeader {
  readonly kind: PackKind;
  /** 16 bytes: the store it was made for. */
  readonly storeId: Uint8Array;
  /** Wall time, for the grace of a collection. */
  readonly createdMs: number;
}

export interface ObjectHeader {
  readonly type: ContentType;
  readonly codec: CodecName;
  readonly rawBytes: number;
  readonly storedBytes: number;
  /** crc32 of what is stored. */
  readonly crc: number;
  readonly name: Uint8Array;
}

/** Where an object lies: `offset` is that of its header. */
export interface IndexEntry {
  readonly name: Uint8Array;
  readonly type: ContentType;
  readonly offset: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
}

export interface Trailer extends PackHeader {
  readonly count: number;
  readonly indexAt: number;
  readonly indexCrc: number;
}

/** magic u64 | version u32 | kind u8, 3 zeroes | store id 16 | created u64 | zeroes 20 | crc32 u32 */
export function encodePackHeader(header: PackHeader): Uint8Array {
  const bytes = new Uint8Array(PACK_HEADER_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(0, HEADER_MAGIC);
  view.setUint32(8, PACK_VERSION);
  view.setUint8(12, KINDS.indexOf(header.kind));
  bytes.set(header.storeId, 16);
  view.setBigUint64(32, BigInt(header.createdMs));
  view.setUint32(60, crc32(bytes.subarray(0, 60)));
  return bytes;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodePackHeader(bytes: Uint8Array, path: string): PackHeader {
  const view = viewOf(bytes);
  checkFrame(bytes, HEADER_MAGIC, path, 'header');
  return { ...kindAt(view, 12, path), ...ownerAt(bytes, 16) };
}

/**
 * magic u64 | version u32 | kind u8, 3 zeroes | store id 16 | created u64 | objects u32 |
 * crc32 of the index u32 | offset of the index u64 | zeroes 4 | crc32 u32
 */
export function encodeTrailer(trailer: Trailer): Uint8Array {
  const bytes = encodePackHeader(trailer);
  const view = viewOf(bytes);
  view.setBigUint64(0, TRAILER_MAGIC);
  view.setUint32(40, trailer.count);
  view.setUint32(44, trailer.indexCrc);
  view.setBigUint64(48, BigInt(trailer.indexAt));
  view.setUint32(60, crc32(bytes.subarray(0, 60)));
  return bytes;
}

/**
 * @param packBytes  the length of the file, with which the trailer must agree
 * @throws SheepError `ERR_CORRUPT`, `ERR_VERSION`
 */
export function decodeTrailer(bytes: Uint8Array, packBytes: number, path: string): Trailer {
  const view = viewOf(bytes);
  checkFrame(bytes, TRAILER_MAGIC, path, 'trailer');
  const count = view.getUint32(40);
  const indexAt = Number(view.getBigUint64(48));
  if (indexAt + count * INDEX_ENTRY_BYTES + TRAILER_BYTES !== packBytes) {
    throw damaged(path, 'its length is not what its trailer says');
  }
  const indexCrc = view.getUint32(44);
  return { ...kindAt(view, 12, path), ...ownerAt(bytes, 16), count, indexAt, indexCrc };
}

/**
 * magic u32 | type u8 | codec u8 | zeroes 2 | raw length u32 | stored length u32 | crc32 of what is
 * stored u32 | name 32 | crc32 u32 of the 52 bytes before it
 */
export function encodeObjectHeader(header: ObjectHeader, into: Uint8Array): void {
  const view = viewOf(into);
  view.setUint32(0, OBJECT_MAGIC);
  view.setUint8(4, TYPES.indexOf(header.type));
  view.setUint8(5, CODECS.indexOf(header.codec));
  view.setUint16(6, 0);
  view.setUint32(8, header.rawBytes);
  view.setUint32(12, header.storedBytes);
  view.setUint32(16, header.crc);
  into.set(header.name, 20);
  view.setUint32(52, crc32(into.subarray(0, 52)));
}

/** Undefined if no object begins here. The name is borrowed from `bytes`. */
export function decodeObjectHeader(bytes: Uint8Array, at = 0): ObjectHeader | undefined {
  if (at + OBJECT_HEADER_BYTES > bytes.length) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(at) !== OBJECT_MAGIC) return undefined;
  if (view.getUint32(at + 52) !== crc32(bytes.subarray(at, at + 52))) return undefined;
  const type = TYPES[view.getUint8(at + 4)];
  const codec = CODECS[view.getUint8(at + 5)];
  if (type === undefined || codec === undefined) return undefined;
  return {
    ...{ type, codec },
    rawBytes: view.getUint32(at + 8),
    storedBytes: view.getUint32(at + 12),
    crc: view.getUint32(at + 16),
    name: bytes.subarray(at + 20, at + 20 + NAME_BYTES),
  };
}

/**
 * Each: name 32 | offset u32 | stored length u32 | raw length u32 | type u8 | zeroes 3.
 * @param entries  in order of their names
 */
export function encodeIndex(entries: readonly IndexEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * INDEX_ENTRY_BYTES);
  const view = viewOf(bytes);
  let at = 0;
  for (const entry of entries) {
    bytes.set(entry.name, at);
    view.setUint32(at + 32, entry.offset);
    view.setUint32(at + 36, entry.storedBytes);
    view.setUint32(at + 40, entry.rawBytes);
    view.setUint8(at + 44, TYPES.indexOf(entry.type));
    at += INDEX_ENTRY_BYTES;
  }
  return bytes;
}

/** Entries as they are looked at: never all of them as objects. */
export interface IndexEntries extends Iterable<IndexEntry> {
  readonly length: number;
  /** As they stand in a pack, checked, in memory of their own; absent: they were not read so. */
  readonly bytes?: Uint8Array;
}

/** Names are borrowed from `bytes`. @throws SheepError `ERR_CORRUPT` */
export function decodeIndex(bytes: Uint8Array, trailer: Trailer, path: string): IndexEntries {
  if (crc32(bytes) !== trailer.indexCrc) throw damaged(path, 'its index does not fit its checksum');
  const view = viewOf(bytes);
  for (let at = 0; at < bytes.length; at += INDEX_ENTRY_BYTES) {
    const offset = view.getUint32(at + 32);
    const end = offset + OBJECT_HEADER_BYTES + view.getUint32(at + 36);
    const inside = offset >= PACK_HEADER_BYTES && end <= trailer.indexAt;
    if (inside && TYPES[view.getUint8(at + 44)] !== undefined) continue;
    throw damaged(path, 'its index names what it cannot hold');
  }
  return {
    length: bytes.length / INDEX_ENTRY_BYTES,
    bytes,
    *[Symbol.iterator]() {
      for (let at = 0; at < bytes.length; at += INDEX_ENTRY_BYTES) {
        yield {
          name: bytes.subarray(at, at + NAME_BYTES),
          type: TYPES[view.getUint8(at + 44)] as ContentType, // looked at above
          offset: view.getUint32(at + 32),
          storedBytes: view.getUint32(at + 36),
          rawBytes: view.getUint32(at + 40),
        };
      }
    },
  };
}

function checkFrame(bytes: Uint8Array, magic: bigint, path: string, what: string): void {
  const view = viewOf(bytes);
  if (bytes.length < PACK_HEADER_BYTES || view.getBigUint64(0) !== magic) {
    throw damaged(path, `it has no ${what}`);
  }
  if (view.getUint32(60) !== crc32(bytes.subarray(0, 60))) {
    throw damaged(path, `its ${what} does not fit its checksum`);
  }
  checkVersion(path, view.getUint32(8), PACK_VERSION);
}

function kindAt(view: DataView, at: number, path: string): Pick<PackHeader, 'kind'> {
  const kind = KINDS[view.getUint8(at)];
  if (kind === undefined) throw damaged(path, 'it is of no kind that there is');
  return { kind };
}

function ownerAt(bytes: Uint8Array, at: number): Pick<PackHeader, 'storeId' | 'createdMs'> {
  const createdMs = Number(viewOf(bytes).getBigUint64(at + 16));
  return { storeId: bytes.slice(at, at + 16), createdMs };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** @throws SheepError `ERR_VERSION` with both versions if it is not the one that is known */
export function checkVersion(path: string, found: unknown, known: number): void {
  if (found === known) return;
  throw new SheepError(
    'ERR_VERSION',
    `${path} is of version ${found}, this program knows version ${known}; use the one that wrote it`,
    { path, found: typeof found === 'number' ? found : String(found), known },
  );
}

export function damaged(path: string, why: string): SheepError {
  return new SheepError('ERR_CORRUPT', `${path} is damaged: ${why}`, { path });
}
