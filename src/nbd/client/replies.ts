import { Reader } from '../../base/bytes.ts';
import { SheepError } from '../../base/errors.ts';
import { Assembler } from '../assembler.ts';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  CHUNK_MAGIC,
  CMD,
  EXTENDED_CHUNK_MAGIC,
  SIMPLE_REPLY_MAGIC,
} from '../constants.ts';
import type { ReplyForm } from '../validate.ts';
import type { Asked } from './asked.ts';

/** A simple reply, and what a chunk's header has before its length. */
const HEAD_BYTES = 16;
const LENGTH_BYTES = 4;
/** The same of an extended header: the request's offset u64, then the length u64. */
const EXTENDED_LENGTH_BYTES = 16;
const OFFSET_BYTES = 8;
const HOLE_BYTES = 12;
/** Of a status: 2^20 extents ("NBD_REPLY_TYPE_BLOCK_STATUS"). Nothing else is longer. */
const STATUS_MAX_BYTES = 4 + 8 * 2 ** 20;
const EXTENDED_STATUS_MAX_BYTES = 8 + 16 * 2 ** 20;
const ERROR_MAX_BYTES = 64 * 1024;
const ERROR_BIT = 0x8000;

/** What the reader takes next. */
type Expected =
  | { readonly part: 'head' }
  | { readonly part: 'length'; readonly chunk: Chunk }
  | { readonly part: 'offset'; readonly chunk: Chunk; readonly length: number }
  | { readonly part: 'payload'; readonly chunk: Chunk; readonly length: number }
  | { readonly part: 'data'; readonly chunk: Chunk; readonly at: number; readonly length: number };

interface Chunk {
  readonly cookie: number;
  readonly asked: Asked;
  readonly type: number;
  readonly done: boolean;
}

/**
 * Cuts what the server sends into replies and gives each to the request that it answers; data goes
 * from the received chunk to its place at once. Pure.
 */
export class ReplyReader {
  /** In flight, by cookie. A request leaves it when its reply is complete. */
  readonly #flight: Map<number, Asked>;
  readonly #form: ReplyForm;
  readonly #assembler = new Assembler();
  #expected: Expected = { part: 'head' };

  constructor(flight: Map<number, Asked>, form: ReplyForm) {
    this.#flight = flight;
    this.#form = form;
  }

  /** Uses `bytes` from `at` on, all of them. @throws SheepError `ERR_BAD_FRAME` */
  push(bytes: Uint8Array, at: number): void {
    while (at < bytes.length) {
      const expected = this.#expected;
      if (expected.part === 'data') {
        const piece = bytes.subarray(at, at + expected.length);
        at += piece.length;
        this.#expected = this.#data(expected.chunk, expected.at, expected.length, piece);
      } else {
        const { run, used } = this.#assembler.take(this.#need(expected), bytes, at);
        at += used;
        if (run === undefined) return;
        this.#expected = this.#next(expected, run);
      }
    }
  }

  #next(expected: Exclude<Expected, { part: 'data' }>, run: Uint8Array): Expected {
    const view = new DataView(run.buffer, run.byteOffset, run.length);
    switch (expected.part) {
      case 'head':
        return this.#head(view);
      case 'length':
        return this.#length(expected.chunk, this.#announced(expected.chunk, view));
      case 'offset':
        return place(expected.chunk, toNumber(view.getBigUint64(0)), expected.length);
      case 'payload':
        return this.#payload(expected.chunk, run);
    }
  }

  /** "Simple reply message", or the first 16 bytes of a chunk's header in either form. */
  #head(view: DataView): Expected {
    const magic = view.getUint32(0);
    const chunkMagic = this.#form === 'extended' ? EXTENDED_CHUNK_MAGIC : CHUNK_MAGIC;
    if (magic !== SIMPLE_REPLY_MAGIC && magic !== chunkMagic) {
      throw new SheepError('ERR_BAD_FRAME', 'something else stands where a reply should', {
        magic,
      });
    }
    const cookie = view.getUint32(8) * 2 ** 32 + view.getUint32(12);
    const asked = this.#flight.get(cookie);
    if (asked === undefined) {
      throw new SheepError('ERR_BAD_FRAME', 'a reply to nothing that was asked', { cookie });
    }
    if (magic === SIMPLE_REPLY_MAGIC) return this.#simple(cookie, asked, view.getUint32(4));
    if (this.#form === 'simple') throw asked.broken('a structured reply that was not agreed');
    const done = (view.getUint16(4) & CHUNK_FLAG_DONE) !== 0;
    return { part: 'length', chunk: { cookie, asked, type: view.getUint16(6), done } };
  }

  #simple(cookie: number, asked: Asked, errno: number): Expected {
    const { type, at, length } = asked.question;
    if (this.#form === 'extended') throw asked.broken('a simple reply to an extended request');
    if (errno !== 0) {
      asked.refused(errno, new Uint8Array(0));
    } else if (type === CMD.READ || type === CMD.BLOCK_STATUS) {
      if (this.#form !== 'simple') throw asked.broken('a simple reply that has to be structured');
      return place({ cookie, asked, type: CHUNK.OFFSET_DATA, done: true }, at, length);
    }
    return this.#finish(cookie, asked);
  }

  /** How long a chunk's payload is. */
  #announced({ asked }: Chunk, view: DataView): number {
    if (this.#form !== 'extended') return view.getUint32(0);
    if (toNumber(view.getBigUint64(0)) !== asked.question.at) {
      throw asked.broken('the offset of another request');
    }
    return toNumber(view.getBigUint64(8));
  }

  #length(chunk: Chunk, length: number): Expected {
    const { asked, type } = chunk;
    if (type === CHUNK.OFFSET_DATA) {
      if (length <= OFFSET_BYTES) throw asked.broken('no data');
      return { part: 'offset', chunk, length: length - OFFSET_BYTES };
    }
    if (length > maxBytesOf(type)) throw asked.broken(`a chunk of ${length} bytes`);
    if (length > 0) return { part: 'payload', chunk, length };
    return this.#payload(chunk, new Uint8Array(0));
  }

  /** The next bytes of a chunk's data, of which `length` are still to come. */
  #data(chunk: Chunk, at: number, length: number, piece: Uint8Array): Expected {
    chunk.asked.put(at, piece);
    const left = length - piece.length;
    if (left > 0) return { part: 'data', chunk, at: at + piece.length, length: left };
    return chunk.done ? this.#finish(chunk.cookie, chunk.asked) : { part: 'head' };
  }

  /** A chunk without data of its own is complete. */
  #payload({ cookie, asked, type, done }: Chunk, payload: Uint8Array): Expected {
    if (type === CHUNK.NONE) {
      if (!done) throw asked.broken('an end that is none');
    } else if (type === CHUNK.OFFSET_HOLE) {
      if (payload.length !== HOLE_BYTES) throw asked.broken('a hole without a size');
      hole(asked, payload);
    } else if (type === this.#statusType) {
      asked.status(payload, this.#form === 'extended');
    } else if ((type & ERROR_BIT) !== 0) {
      refuse(asked, payload);
    } else {
      throw asked.broken(`a chunk of the unknown type ${type}`);
    }
    return done ? this.#finish(cookie, asked) : { part: 'head' };
  }

  get #statusType(): number {
    return this.#form === 'extended' ? CHUNK.BLOCK_STATUS_EXT : CHUNK.BLOCK_STATUS;
  }

  #need(expected: Exclude<Expected, { part: 'data' }>): number {
    switch (expected.part) {
      case 'head':
        return HEAD_BYTES;
      case 'length':
        return this.#form === 'extended' ? EXTENDED_LENGTH_BYTES : LENGTH_BYTES;
      case 'offset':
        return OFFSET_BYTES;
      case 'payload':
        return expected.length;
    }
  }

  /** It stays in flight if its reply turns out to be none: then it fails with the connection. */
  #finish(cookie: number, asked: Asked): Expected {
    asked.finish();
    this.#flight.delete(cookie);
    return { part: 'head' };
  }
}

/** Data follows. */
function place(chunk: Chunk, at: number, length: number): Expected {
  chunk.asked.place(at, length);
  return { part: 'data', chunk, at, length };
}

/** offset u64 | size u32. */
function hole(asked: Asked, payload: Uint8Array): void {
  const reader = new Reader(payload);
  const [at, length] = [toNumber(reader.u64('hole offset')), reader.u32('hole size')];
  asked.place(at, length);
  asked.clear(at, length);
}

/** Every error chunk begins so: error u32 | text length u16 | text. */
function refuse(asked: Asked, payload: Uint8Array): void {
  const reader = new Reader(payload);
  const errno = reader.u32('error');
  asked.refused(errno, reader.bytes(reader.u16('error text length'), 'error text'));
}

function maxBytesOf(type: number): number {
  if (type === CHUNK.NONE) return 0;
  if (type === CHUNK.OFFSET_HOLE) return HOLE_BYTES;
  if (type === CHUNK.BLOCK_STATUS) return STATUS_MAX_BYTES;
  return type === CHUNK.BLOCK_STATUS_EXT ? EXTENDED_STATUS_MAX_BYTES : ERROR_MAX_BYTES;
}

/** Beyond 2^53 it is not exact, and lies outside of every request. */
function toNumber(offset: bigint): number {
  return Number(offset);
}
