import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../base/bytes.ts';
import { isFault, SheepError } from '../base/errors.ts';
import { roundUp } from '../base/units.ts';
import { RECORD_BODY_BYTES_MAX } from './limits.ts';

/**
 * The bytes of the local coordinator's log (FORMATS.md): a header, then records. All integers are
 * big-endian, crc32 is that of zlib.
 *
 * - header, 64 bytes: magic 8 | version u32 | baseEnd u64 | baseRevision u64 | cluster id 16 |
 *   zeroes 16 | crc32 u32 of the 60 bytes before it. These places hold in every version.
 * - record: magic u32 | body length u32 | revision u64 | crc32 of the body u32 | crc32 of the 20
 *   bytes before it u32 | body. `revision` is that of the last change in the body.
 * - body: changes, each: revision u64 | number of keys u16 | keys, each: kind u8 | key length u16 |
 *   key | and, unless it was removed, value length u32 | value.
 *
 * From the header to `baseEnd` stands what was there at `baseRevision`, each key under the revision
 * at which it was last changed. Behind it stands one record for each sync, with the changes that
 * shared it. Behind the last one there are only zeroes.
 */
const LOG_VERSION = 1;
export const HEADER_BYTES = 64;
const RECORD_HEADER_BYTES = 24;

const LOG_MAGIC = new TextEncoder().encode('sheepcrd');
const RECORD_MAGIC = 0x5c6f_7264;
/** The least that a medium writes whole: what a power cut leaves unwritten is a run of these. */
const SECTOR_BYTES = 512;

const KIND = { removed: 0, put: 1, leased: 2 } as const;

export interface LogHeader {
  readonly clusterId: Uint8Array;
  readonly baseRevision: bigint;
  /** Where the base ends: a log is given its name only when all of it is on the medium. */
  readonly baseEnd: number;
}

/** One key of a change. */
export interface KeyChange {
  readonly key: string;
  /** Absent: the key was removed. */
  readonly value?: Uint8Array;
  /** It lives as long as the process that wrote it. */
  readonly leased: boolean;
}

/** One swap that took effect: all its keys have this revision. */
export interface LogChange {
  readonly revision: bigint;
  readonly keys: readonly KeyChange[];
}

export function encodeHeader(header: LogHeader): Uint8Array<ArrayBuffer> {
  const writer = new Writer(HEADER_BYTES)
    .bytes(LOG_MAGIC)
    .u32(LOG_VERSION)
    .u64(header.baseEnd)
    .u64(header.baseRevision)
    .bytes(header.clusterId)
    .zeroes(16);
  return writer.u32(crc32(writer.done())).done();
}

/** @throws SheepError `ERR_CORRUPT`, or `ERR_VERSION` for a log of another version */
function decodeHeader(bytes: Uint8Array, path: string): LogHeader {
  if (bytes.length < HEADER_BYTES) throw damaged(path, 0, 'its header is cut off');
  const reader = new Reader(bytes.subarray(0, HEADER_BYTES));
  if (!sameBytes(reader.bytes(LOG_MAGIC.length, 'magic'), LOG_MAGIC)) {
    throw damaged(path, 0, 'it does not begin as a coordinator log does');
  }
  if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(60) !== crc32(bytes.subarray(0, 60))) {
    throw damaged(path, 0, 'its header does not fit its checksum');
  }
  const version = reader.u32('version');
  if (version !== LOG_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `${path} has format version ${version}, this sheep reads version ${LOG_VERSION}; ` +
        'use the sheep that wrote it',
      { path, version, supported: LOG_VERSION },
    );
  }
  const baseEnd = reader.size('end of the base');
  const baseRevision = reader.u64('revision of the base');
  return { baseEnd, baseRevision, clusterId: reader.bytes(16, 'cluster id').slice() };
}

/** @param changes  at least one, with growing revisions */
export function encodeRecord(changes: readonly LogChange[]): Uint8Array<ArrayBuffer> {
  const body = new Writer(256);
  for (const change of changes) {
    body.u64(change.revision).u16(change.keys.length);
    for (const { key, value, leased } of change.keys) {
      const keyBytes = new TextEncoder().encode(key);
      body.u8(value === undefined ? KIND.removed : leased ? KIND.leased : KIND.put);
      body.u16(keyBytes.length).bytes(keyBytes);
      if (value !== undefined) body.u32(value.length).bytes(value);
    }
  }
  const bodyBytes = body.done();
  const writer = new Writer(RECORD_HEADER_BYTES + bodyBytes.length)
    .u32(RECORD_MAGIC)
    .u32(bodyBytes.length)
    .u64(changes.at(-1)?.revision ?? 0n)
    .u32(crc32(bodyBytes));
  return writer.u32(crc32(writer.done())).bytes(bodyBytes).done();
}

/** How many bytes these keys take in a record, at most. */
export function encodedBytes(keys: readonly KeyChange[]): number {
  return keys.reduce((sum, { key, value }) => sum + 7 + key.length * 3 + (value?.length ?? 0), 10);
}

export interface LogContents {
  readonly header: LogHeader;
  readonly base: readonly LogChange[];
  /** Behind the base, with revisions that grow by one. */
  readonly changes: readonly LogChange[];
  /** Where the next record goes. */
  readonly end: number;
  /** What stands at `end`: nothing but zeroes, or a record that a power cut left unfinished. */
  readonly tail: 'clean' | 'torn';
}

/** A whole log in memory; `path` is for messages. */
interface Source {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly path: string;
}

/**
 * Reads a whole log.
 * @throws SheepError `ERR_CORRUPT` with path and offset, `ERR_VERSION`
 */
export function readLog(bytes: Uint8Array, path: string): LogContents {
  const header = decodeHeader(bytes, path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const source: Source = { bytes, view, path };
  const base: LogChange[] = [];
  const changes: LogChange[] = [];
  let last = 0n;
  let at = HEADER_BYTES;
  while (at < header.baseEnd) {
    const record = recordAt(source, at);
    if (record === undefined || record.end > header.baseEnd) {
      throw damaged(path, at, 'a record does not fit its checksum');
    }
    for (const change of decodeBody(record, path, at)) {
      if (change.revision <= last || change.revision > header.baseRevision) {
        throw damaged(path, at, `revision ${change.revision} cannot follow ${last}`);
      }
      last = change.revision;
      base.push(change);
    }
    at = record.end;
  }
  if (at !== header.baseEnd) throw damaged(path, 0, `its base cannot end at ${header.baseEnd}`);
  last = header.baseRevision;
  for (let record = recordAt(source, at); record !== undefined; record = recordAt(source, at)) {
    for (const change of decodeBody(record, path, at)) {
      if (change.revision !== last + 1n) {
        throw damaged(path, at, `revision ${change.revision} cannot follow ${last}`);
      }
      last = change.revision;
      changes.push(change);
    }
    at = record.end;
  }
  return { header, base, changes, end: at, tail: tailAt(source, at) };
}

interface RawRecord {
  readonly revision: bigint;
  readonly body: Uint8Array;
  readonly end: number;
}

/** The record at `at` if it is whole and its checksums fit. */
function recordAt(source: Source, at: number): RawRecord | undefined {
  const header = recordHeaderAt(source, at);
  if (header === undefined || header.end > source.bytes.length) return undefined;
  const body = source.bytes.subarray(at + RECORD_HEADER_BYTES, header.end);
  if (crc32(body) !== header.bodyCrc) return undefined;
  return { revision: header.revision, body, end: header.end };
}

function recordHeaderAt({ bytes, view }: Source, at: number) {
  if (at + RECORD_HEADER_BYTES > bytes.length) return undefined;
  if (view.getUint32(at) !== RECORD_MAGIC) return undefined;
  if (view.getUint32(at + 20) !== crc32(bytes.subarray(at, at + 20))) return undefined;
  const length = view.getUint32(at + 4);
  if (length > RECORD_BODY_BYTES_MAX) return undefined;
  return {
    end: at + RECORD_HEADER_BYTES + length,
    revision: view.getBigUint64(at + 8),
    bodyCrc: view.getUint32(at + 16),
  };
}

function decodeBody({ body, revision: last }: RawRecord, path: string, at: number): LogChange[] {
  const reader = new Reader(body);
  const changes: LogChange[] = [];
  try {
    while (reader.left > 0) {
      const revision = reader.u64('revision');
      const count = reader.u16('number of keys');
      const keys: KeyChange[] = [];
      for (let index = 0; index < count; index++) keys.push(decodeKey(reader));
      changes.push({ revision, keys });
    }
  } catch (cause) {
    if (!isFault(cause, 'ERR_BAD_FRAME')) throw cause;
    throw damaged(path, at, cause.message);
  }
  if (changes.at(-1)?.revision === last) return changes;
  throw damaged(path, at, `its changes do not end with revision ${last}`);
}

function decodeKey(reader: Reader): KeyChange {
  const kind = reader.u8('kind');
  const key = reader.text(reader.u16('length of a key'), 'key');
  if (kind === KIND.removed) return { key, leased: false };
  if (kind !== KIND.put && kind !== KIND.leased) {
    throw new SheepError('ERR_BAD_FRAME', `no change of a key is of kind ${kind}`);
  }
  const value = reader.bytes(reader.u32('length of a value'), 'value').slice();
  return { key, value, leased: kind === KIND.leased };
}

/**
 * Tells an unfinished last record from damage. A power cut leaves each sector of the last record
 * written, or as it was: zero; and the file as long as it was or is. It changes no byte. So a record
 * is torn if the file ends inside it or a sector of it is all zero, and if no record stands behind
 * it, because each is synced before the next is written. All else was changed later, and a settled
 * change may be lost with it.
 */
function tailAt(source: Source, at: number): LogContents['tail'] {
  const { bytes, path } = source;
  if (isZero(bytes, at, bytes.length)) return 'clean';
  const nextCandidate = (after: number) => bytes.indexOf(RECORD_MAGIC >>> 24, after + 1);
  for (let later = nextCandidate(at); later >= 0; later = nextCandidate(later)) {
    if (recordAt(source, later) === undefined) continue;
    throw damaged(path, at, `a damaged record stands before a sound one at ${later}`);
  }
  const headerEnd = at + RECORD_HEADER_BYTES;
  if (headerEnd > bytes.length) return 'torn';
  // Of a record whose length cannot be trusted, the sectors that hold its header are looked at.
  const header = recordHeaderAt(source, at);
  if (header !== undefined && header.end > bytes.length) return 'torn';
  const end = header?.end ?? Math.min(roundUp(headerEnd, SECTOR_BYTES), bytes.length);
  if (hasZeroSector(bytes, at, end)) return 'torn';
  throw damaged(path, at, 'its last record was whole and does not fit its checksum');
}

/** True if some sector is all zero in what `from` to `to` has of it. */
function hasZeroSector(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; ) {
    const next = Math.min(to, roundUp(at + 1, SECTOR_BYTES));
    if (isZero(bytes, at, next)) return true;
    at = next;
  }
  return false;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  return bytes.subarray(from, to).every((byte) => byte === 0);
}

function damaged(path: string, offset: number, what: string): SheepError {
  return new SheepError(
    'ERR_CORRUPT',
    `${path} is damaged at byte ${offset}: ${what}; restore it from a backup`,
    { path, offset },
  );
}
