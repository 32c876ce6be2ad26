import type { BlockDevice } from '../contracts/block-device.ts';
import type { Completion } from '../contracts/call.ts';
import { CHUNK } from './constants.ts';
import type { Refusal } from './errno.ts';
import {
  DATA_CHUNK_BYTES,
  putChunkHeader,
  putOffset,
  putSimpleReply,
  SIMPLE_REPLY_BYTES,
} from './frames.ts';
import type { NbdLimits } from './limits.ts';
import type { Held, Outbound } from './outbound.ts';
import type { Cookie, Replies } from './replies.ts';

/**
 * A READ that does not fit a slab is read in pieces, each into a slab of its own. While pieces are
 * still to be begun, the connection begins no other request: the device is called in the order in
 * which requests arrived, and reply memory stays bounded.
 *
 * - With structured replies every piece is a chunk of its own (`CutRead`); an error after the first
 *   chunk has left is an error chunk.
 * - Without them, or with DF, the reply is one run of bytes (`WholeRead`). Up to `readWholeMaxBytes`
 *   it is complete in memory before its header leaves, so an error can still be told. A longer one
 *   (only simple ones are: DF is refused there) is sent window by window while nothing else is in
 *   flight, and an error after the first window can only close the connection ("Simple reply").
 */
export interface LargeRead {
  /** Begins the pieces that may begin now. True: the connection may go on with other requests. */
  advance(): boolean;
}

export interface ReadHost {
  readonly device: BlockDevice;
  readonly outbound: Outbound;
  readonly replies: Replies;
  readonly limits: NbdLimits;
  /** No other request of this connection is in flight. */
  alone(): boolean;
  /** `advance` of the current large read might get further. */
  advanceLater(): void;
  refusalOf(error: unknown): Refusal;
  /** Replied; exactly once for each large read. */
  finished(): void;
  /** A reply cannot be completed: the connection has to end. Instead of `finished`. */
  broken(): void;
}

export interface ReadRange {
  readonly cookie: Cookie;
  readonly at: number;
  readonly end: number;
}

/** One chunk a piece, each sent when it is there, then a chunk that ends the reply. */
export class CutRead implements LargeRead {
  readonly #host: ReadHost;
  readonly #cookie: Cookie;
  readonly #end: number;
  #at: number;
  /** Pieces under way, and one for the beginning of pieces itself. */
  #open = 1;
  #refusal: Refusal | undefined;

  constructor(host: ReadHost, range: ReadRange) {
    this.#host = host;
    this.#cookie = range.cookie;
    this.#at = range.at;
    this.#end = range.end;
  }

  advance(): boolean {
    while (this.#at < this.#end && this.#refusal === undefined) {
      if (this.#host.outbound.full) return false;
      const to = pieceEnd(this.#at, this.#end, this.#host.limits);
      this.#piece(this.#at, to - this.#at);
      this.#at = to;
    }
    this.#settled();
    return true;
  }

  #piece(offset: number, length: number): void {
    const { device, outbound, replies } = this.#host;
    const { high, low } = this.#cookie;
    if (device.zeroNow?.(offset, length)) return replies.hole(high, low, offset, length, false);
    const at = outbound.reserve(DATA_CHUNK_BYTES + length);
    const { bytes, view } = outbound.slab;
    putChunkHeader(view, at, high, low, CHUNK.OFFSET_DATA, false, 8 + length);
    putOffset(view, at + 20, offset);
    const into = bytes.subarray(at + DATA_CHUNK_BYTES, at + DATA_CHUNK_BYTES + length);
    let waiting: Completion;
    try {
      waiting = device.read(offset, into);
    } catch (error) {
      outbound.cancel(at);
      this.#refusal ??= this.#host.refusalOf(error);
      return;
    }
    if (waiting !== undefined) this.#await(waiting, outbound.hold(at));
  }

  #await(waiting: Promise<void>, held: Held): void {
    const { outbound } = this.#host;
    this.#open += 1;
    waiting.then(
      () => {
        outbound.sendHeld(held);
        this.#settled();
      },
      (error: unknown) => {
        outbound.dropHeld(held);
        this.#refusal ??= this.#host.refusalOf(error);
        this.#settled();
      },
    );
  }

  #settled(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    const { high, low } = this.#cookie;
    if (this.#refusal === undefined) this.#host.replies.readDone(high, low);
    else this.#host.replies.refused(high, low, this.#refusal);
    this.#host.finished();
  }
}

/** One header, then all of the data. */
export class WholeRead implements LargeRead {
  readonly #host: ReadHost;
  readonly #range: ReadRange;
  /** What is sent at once: all of it, or one of several windows. */
  #windowEnd: number;
  #at: number;
  #pieces: Held[] = [];
  /** Pieces of this window under way, and one while pieces of it are still to be begun. */
  #open = 1;
  #begun = false;
  #over = false;
  #refusal: Refusal | undefined;

  constructor(host: ReadHost, range: ReadRange) {
    this.#host = host;
    this.#range = range;
    this.#at = range.at;
    this.#windowEnd = this.#nextWindow();
  }

  get #inWindows(): boolean {
    return this.#range.end - this.#range.at > this.#host.limits.readWholeMaxBytes;
  }

  advance(): boolean {
    if (!this.#begun && this.#inWindows && !this.#host.alone()) return false;
    this.#begun = true;
    while (this.#at < this.#windowEnd) {
      if (this.#host.outbound.full) return false;
      const to = pieceEnd(this.#at, this.#windowEnd, this.#host.limits);
      this.#piece(this.#at, to - this.#at);
      this.#at = this.#refusal === undefined ? to : this.#windowEnd;
      if (this.#at === this.#windowEnd) this.#settled();
    }
    return this.#over || !this.#inWindows;
  }

  #piece(offset: number, length: number): void {
    const { device, outbound } = this.#host;
    const header = offset === this.#range.at ? this.#headerBytes : 0;
    const at = outbound.reserve(header + length);
    if (header > 0) this.#putHeader(outbound.slab.view, at);
    const into = outbound.slab.bytes.subarray(at + header, at + header + length);
    const held = outbound.hold(at);
    this.#pieces.push(held);
    let waiting: Completion;
    try {
      waiting = device.read(offset, into);
    } catch (error) {
      this.#refusal ??= this.#host.refusalOf(error);
      return;
    }
    if (waiting === undefined) return;
    this.#open += 1;
    waiting.then(
      () => this.#settled(),
      (error: unknown) => {
        this.#refusal ??= this.#host.refusalOf(error);
        this.#settled();
      },
    );
  }

  get #headerBytes(): number {
    return this.#host.replies.structured ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
  }
  #putHeader(view: DataView, at: number): void {
    const { cookie, at: offset, end } = this.#range;
    if (this.#host.replies.structured) {
      const length = 8 + end - offset;
      putChunkHeader(view, at, cookie.high, cookie.low, CHUNK.OFFSET_DATA, true, length);
      putOffset(view, at + 20, offset);
    } else {
      putSimpleReply(view, at, cookie.high, cookie.low, 0);
    }
  }

  #settled(): void {
    this.#open -= 1;
    if (this.#open === 0) this.#windowDone();
  }

  #windowDone(): void {
    const { outbound } = this.#host;
    const pieces = this.#pieces.splice(0);
    if (this.#refusal !== undefined) return this.#failed(pieces, this.#refusal);
    for (const piece of pieces) outbound.sendHeld(piece);
    if (this.#windowEnd === this.#range.end) {
      this.#over = true;
      return this.#host.finished();
    }
    this.#windowEnd = this.#nextWindow();
    this.#open = 1;
    this.#host.advanceLater();
  }

  #failed(pieces: readonly Held[], refusal: Refusal): void {
    const { outbound, replies } = this.#host;
    for (const piece of pieces) outbound.dropHeld(piece);
    this.#over = true;
    const { at, cookie } = this.#range;
    if (this.#windowEnd > at + this.#host.limits.readWholeMaxBytes) return this.#host.broken();
    replies.refused(cookie.high, cookie.low, refusal);
    this.#host.finished();
  }

  #nextWindow(): number {
    return Math.min(this.#range.end, this.#at + this.#host.limits.readWholeMaxBytes);
  }
}

/** Pieces end at multiples of their size on the disk. Pure. */
export function pieceEnd(at: number, end: number, limits: NbdLimits): number {
  const size = limits.readPieceBytes;
  return Math.min(end, (Math.floor(at / size) + 1) * size);
}
