import { Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import {
  CHUNK_FLAG_DONE,
  CHUNK_MAGIC,
  EXTENDED_CHUNK_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
} from './constants.ts';

/**
 * Fixed frames. Those of the handshake are made as bytes of their own; those of transmission are
 * put into a reply buffer at a place, because a request must not cost an object.
 */

/** magic u32 | flags u16 | type u16 | cookie u64 | offset u64 | length u32, or u64 if extended. */
export const REQUEST_FORM = {
  compact: { magic: REQUEST_MAGIC, bytes: 28 },
  extended: { magic: EXTENDED_REQUEST_MAGIC, bytes: 32 },
} as const;
export const REQUEST_AT = { flags: 4, type: 6, cookie: 8, offset: 16, length: 24 } as const;

/** What a reply repeats of its request: cookie and offset, in halves, not computed with. */
export interface Repeated {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
export const EXTENDED_CHUNK_HEADER_BYTES = 32;
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

/** magic u32 | error u32 | cookie u64; data follows a READ without error. */
export function putSimpleReply(view: DataView, at: number, request: Repeated, errno: number): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, errno);
  view.setInt32(at + 8, request.cookieHigh);
  view.setInt32(at + 12, request.cookieLow);
}

/** magic u32 | flags u16 | type u16 | cookie u64 | payload length u32. */
export function putChunkHeader(
  view: DataView,
  at: number,
  request: Repeated,
  type: number,
  done: boolean,
  length: number,
): void {
  view.setUint32(at, CHUNK_MAGIC);
  view.setUint16(at + 4, done ? CHUNK_FLAG_DONE : 0);
  view.setUint16(at + 6, type);
  view.setInt32(at + 8, request.cookieHigh);
  view.setInt32(at + 12, request.cookieLow);
  view.setUint32(at + 16, length);
}

/** magic u32 | flags u16 | type u16 | cookie u64 | the request's offset u64 | payload length u64. */
export function putExtendedChunkHeader(
  view: DataView,
  at: number,
  request: Repeated,
  type: number,
  done: boolean,
  length: number,
): void {
  view.setUint32(at, EXTENDED_CHUNK_MAGIC);
  view.setUint16(at + 4, done ? CHUNK_FLAG_DONE : 0);
  view.setUint16(at + 6, type);
  view.setInt32(at + 8, request.cookieHigh);
  view.setInt32(at + 12, request.cookieLow);
  view.setInt32(at + 16, request.offsetHigh);
  view.setInt32(at + 20, request.offsetLow);
  putNumber64(view, at + 24, length);
}

/** A 64-bit field from a number below 2^53. */
export function putNumber64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
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
