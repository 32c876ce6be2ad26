import { createHash } from 'node:crypto';
import {
  constants,
  crc32,
  deflateSync,
  inflateSync,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import { assert } from './assert.ts';

/**
 * What is done to the objects of a snapshot store: named, compressed, proven. Pure, and each job is
 * of many slices, so that a thread can be given one (contracts/cpu-pool.ts).
 */

export type HashName = 'sha256' | 'sha1';
export type CodecName = 'zstd' | 'zlib' | 'none';
/** `data` is a slice of a disk, `trunk` names slices or trunks by position, `snap` names a trunk. */
export type ContentType = 'data' | 'trunk' | 'snap';

/** Of every name; a sha1 is followed by zeroes. A name of zeroes stands for content of zeroes. */
export const NAME_BYTES = 32;
export const ZERO_NAME: Uint8Array = new Uint8Array(NAME_BYTES);

export interface NameJob {
  readonly hash: HashName;
  readonly type: ContentType;
  /** Slices of this length, one behind the other. */
  readonly sliceBytes: number;
  readonly bytes: Uint8Array;
}

export interface CompressJob {
  readonly codec: CodecName;
  readonly level: number;
  readonly sliceBytes: number;
  /** Slices; those compressed are overwritten with what is to be stored of them. */
  readonly bytes: Uint8Array;
  /** Indexes of the slices to compress. */
  readonly which: readonly number[];
}

/** What stands at the beginning of a slice now. `codec` is `none` if it did not become shorter. */
export interface Compressed {
  readonly codec: CodecName;
  readonly length: number;
  /** crc32 of these bytes. */
  readonly crc: number;
}

export interface ProveJob {
  readonly hash: HashName;
  readonly stored: Uint8Array;
  /** The name of each piece, one behind the other. */
  readonly names: Uint8Array;
  readonly pieces: readonly StoredPiece[];
  /** Where the payloads go. */
  readonly into: Uint8Array;
}

export interface StoredPiece extends Compressed {
  readonly type: ContentType;
  /** Where in `stored` it begins. */
  readonly at: number;
  readonly rawBytes: number;
  /** Where in `into` its payload goes. */
  readonly to: number;
}

/** Why a piece is not what its name says; undefined: it is, and its payload is in its place. */
export type Flaw =
  | 'its stored bytes do not fit their checksum'
  | 'it cannot be decompressed'
  | 'its content does not fit its name';

/** The three jobs, done at once in this thread. */
export interface ContentWork {
  /** The names of the slices, one behind the other. */
  name(job: NameJob): Uint8Array;
  /** One answer for each of `which`. */
  compress(job: CompressJob): Compressed[];
  /** One answer for each piece. */
  prove(job: ProveJob): (Flaw | undefined)[];
}

export const contentWork: ContentWork = contentWorkBy(nameContent);

/** The jobs with another way to name content: tests make names that collide. */
export function contentWorkBy(nameOf: typeof nameContent): ContentWork {
  return {
    name: ({ hash, type, sliceBytes, bytes }) => {
      assert(bytes.length % sliceBytes === 0, 'whole slices are named');
      const names = new Uint8Array((bytes.length / sliceBytes) * NAME_BYTES);
      for (let at = 0, to = 0; at < bytes.length; at += sliceBytes, to += NAME_BYTES) {
        const slice = bytes.subarray(at, at + sliceBytes);
        if (!isZero(slice)) names.set(nameOf(hash, type, slice), to);
      }
      return names;
    },
    compress: compressSlices,
    prove: (job) => job.pieces.map((piece, index) => provePiece(job, piece, index, nameOf)),
  };
}

/**
 * The hash of `"<type> <length>\0"` and the payload, as the objects of git are named.
 * @returns 20 bytes of sha1 or 32 of sha256
 */
export function nameContent(hash: HashName, type: ContentType, payload: Uint8Array): Uint8Array {
  return createHash(hash).update(`${type} ${payload.length}\0`).update(payload).digest();
}

/** The digits of a name, for people and messages. */
export function formatName(hash: HashName, name: Uint8Array): string {
  const length = hash === 'sha1' ? 20 : NAME_BYTES;
  return Buffer.from(name.buffer, name.byteOffset, length).toString('hex');
}

export function isZero(bytes: Uint8Array): boolean {
  // Nearly all slices differ from zero in their first bytes.
  if (bytes[0] !== 0 || bytes[bytes.length >>> 1] !== 0) return false;
  for (let at = 0; at < bytes.length; at += zeroes.length) {
    const part = bytes.subarray(at, at + zeroes.length);
    if (zeroes.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}

const zeroes = Buffer.alloc(64 * 1024);

function compressSlices({ codec, level, sliceBytes, bytes, which }: CompressJob): Compressed[] {
  return which.map((index) => {
    const slice = bytes.subarray(index * sliceBytes, (index + 1) * sliceBytes);
    const shorter = compress(codec, level, slice);
    if (shorter === undefined || shorter.length >= slice.length) {
      return { codec: 'none', length: slice.length, crc: crc32(slice) };
    }
    slice.set(shorter);
    return { codec, length: shorter.length, crc: crc32(shorter) };
  });
}

function compress(codec: CodecName, level: number, payload: Uint8Array): Uint8Array | undefined {
  switch (codec) {
    case 'zstd':
      return zstdCompressSync(payload, {
        params: { [constants.ZSTD_c_compressionLevel]: level },
        // Without it zstd takes tables for something long, which fit no cache.
        pledgedSrcSize: payload.length,
        chunkSize: chunkFor(payload.length),
      });
    case 'zlib':
      return deflateSync(payload, { level, chunkSize: chunkFor(payload.length) });
    case 'none':
      return undefined;
  }
}

/** All that comes out in one piece: that of zlib's own choice is a quarter of a slice. */
function chunkFor(rawBytes: number): number {
  return Math.min(Math.max(rawBytes, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
}
/** zlib takes no shorter ones; and longer ones than slices are not worth their memory. */
const CHUNK_BYTES_MIN = 64;
const CHUNK_BYTES_MAX = 1024 * 1024;

function provePiece(
  { hash, stored, names, into }: ProveJob,
  piece: StoredPiece,
  index: number,
  nameOf: typeof nameContent,
): Flaw | undefined {
  const bytes = stored.subarray(piece.at, piece.at + piece.length);
  if (crc32(bytes) !== piece.crc) return 'its stored bytes do not fit their checksum';
  const payload = decompress(piece.codec, bytes, piece.rawBytes);
  if (payload === undefined) return 'it cannot be decompressed';
  const name = nameOf(hash, piece.type, payload);
  const expected = names.subarray(index * NAME_BYTES, index * NAME_BYTES + name.length);
  if (Buffer.compare(name, expected) !== 0) return 'its content does not fit its name';
  into.set(payload, piece.to);
  return undefined;
}

/** Undefined if that is not what it was made of: never more than `rawBytes` come out. */
function decompress(codec: CodecName, stored: Uint8Array, rawBytes: number) {
  try {
    const payload = expand(codec, stored, rawBytes);
    return payload.length === rawBytes ? payload : undefined;
  } catch {
    return undefined;
  }
}

function expand(codec: CodecName, stored: Uint8Array, maxOutputLength: number): Uint8Array {
  // A byte more than there is: zlib would follow a piece that is full with another one for nothing.
  const how = { maxOutputLength, chunkSize: chunkFor(maxOutputLength) + 1 };
  switch (codec) {
    case 'zstd':
      return zstdDecompressSync(stored, how);
    case 'zlib':
      return inflateSync(stored, how);
    case 'none':
      return stored;
  }
}
