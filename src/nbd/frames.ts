import { Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  CHUNK_MAGIC,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  SIMPLE_REPLY_MAGIC,
} from './constants.ts';

/**
 * Fixed frames. Those of the handshake are made as bytes of their own; those of transmission are
 * put into a reply buffer at a place, because a request must not cost an object.
 */

/** magic u32 | flags u16 | type u16 | cookie u64 | offset u64 | length u32. */
export const REQUEST_BYTES = 28;
export const REQUEST_AT = { flags: 4, type: 6, cookie: 8, offset: 16, length: 24 } as const;

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
/** A chunk's header and the offset that starts the payload of data and holes. */
export const DATA_CHUNK_BYTES = 28;
export const HOLE_CHUNK_BYTES = 32;
const ERROR_CHUNK_BYTES = 26;
const EXPORT_NAME_PADDING_BYTES = 124;

/** magic u64 | option magic u64 | handshake flags u16. */
export function greeting(): Uint8Array<ArrayBuffer> {
  const flags = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
  return new Writer(18).u64(GREETING_MAGIC).u64(OPTION_MAGIC).u16(flags).done();
}

/** option magic u64 | option u32 | length u32. @throws SheepError `ERR_BAD_FRAME` */
export function decodeOptionHeader(bytes: Uint8Array): { option: number; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, OPTION_HEADER_BYTES);
  const magic = view.getBigUint64(0);
  if (magic !== OPTION_MAGIC) throw new SheepError('ERR_BAD_FRAME', 'option magic', { magic });
  return { option: view.getUint32(8), length: view.getUint32(12) };
}

/** reply magic u64 | option u32 | reply type u32 | length u32 | payload. */
export function optionReply(
  option: number,
  type: number,
  payload = new Uint8Array(0),
): Uint8Array<ArrayBuffer> {
  const writer = new Writer(20 + payload.length);
  return writer
    .u64(OPTION_REPLY_MAGIC)
    .u32(option)
    .u32(type)
    .u32(payload.length)
    .bytes(payload)
    .done();
}

/** size u64 | transmission flags u16 | 124 zeroes unless both sides agreed to leave them out. */
export function exportNameReply(sizeBytes: number, flags: number, padded: boolean) {
  const writer = new Writer(10 + EXPORT_NAME_PADDING_BYTES).u64(sizeBytes).u16(flags);
  return (padded ? writer.zeroes(EXPORT_NAME_PADDING_BYTES) : writer).done();
}

/**
 * magic u32 | error u32 | cookie u64; data follows a READ without error. The cookie is opaque to
 * us, so its halves are carried as two numbers.
 */
export function putSimpleReply(
  view: DataView,
  at: number,
  cookieHigh: number,
  cookieLow: number,
  errno: number,
): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, errno);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}

/** magic u32 | flags u16 | type u16 | cookie u64 | payload length u32. */
export function putChunkHeader(
  view: DataView,
  at: number,
  cookieHigh: number,
  cookieLow: number,
  type: number,
  done: boolean,
  length: number,
): void {
  view.setUint32(at, CHUNK_MAGIC);
  view.setUint16(at + 4, done ? CHUNK_FLAG_DONE : 0);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
  view.setUint32(at + 16, length);
}

/** A 64-bit field from a number below 2^53. */
export function putOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 2 ** 32));
  view.setUint32(at + 4, offset % 2 ** 32);
}

/** An error chunk: error u32 | text length u16 | text. It ends its reply. */
export function errorChunk(
  cookieHigh: number,
  cookieLow: number,
  errno: number,
  text: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(ERROR_CHUNK_BYTES + text.length);
  const view = new DataView(bytes.buffer);
  putChunkHeader(view, 0, cookieHigh, cookieLow, CHUNK.ERROR, true, 6 + text.length);
  view.setUint32(20, errno);
  view.setUint16(24, text.length);
  bytes.set(text, ERROR_CHUNK_BYTES);
  return bytes;
}

/** Several frames as one run of bytes: a single one is not copied. */
export function joined(frames: readonly Uint8Array[]): Uint8Array {
  const [only] = frames;
  if (only !== undefined && frames.length === 1) return only;
  const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + frame.length, 0));
  let at = 0;
  for (const frame of frames) {
    bytes.set(frame, at);
    at += frame.length;
  }
  return bytes;
}
