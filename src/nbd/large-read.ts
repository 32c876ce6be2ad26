import type { Completion } from '../contracts/call.ts';
import { attempt } from './attempt.ts';
import { ERRNO } from './constants.ts';
import type { Refusal } from './errno.ts';
import type { Request } from './head.ts';
import type { InFlight } from './in-flight.ts';
import type { NbdLimits } from './limits.ts';
import type { Held } from './outbound.ts';

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

export interface ReadRange {
  readonly request: Request;
  readonly at: number;
  readonly end: number;
}

/** One chunk a piece, each sent when it is there, then a chunk that ends the reply. */
export class CutRead implements LargeRead {
  readonly #flight: InFlight;
  readonly #request: Request;
  readonly #end: number;
  #at: number;
  /** Pieces under way, and one for the beginning of pieces itself. */
  #open = 1;
  #refusal: Refusal | undefined;

  constructor(flight: InFlight, range: ReadRange) {
    this.#flight = flight;
    this.#request = range.request;
    this.#at = range.at;
    this.#end = range.end;
  }

  advance(): boolean {
    const { outbound } = this.#flight;
    while (this.#at < this.#end && this.#refusal === undefined && !outbound.closed) {
      if (outbound.full) return false;
      const to = pieceEnd(this.#at, this.#end, this.#flight.limits);
      this.#piece(this.#at, to - this.#at);
      this.#at = to;
    }
    this.#settled();
    return true;
  }

  #piece(offset: number, length: number): void {
    const { device, outbound, replies } = this.#flight;
    const request = this.#request;
    if (device.zeroNow?.(offset, length)) {
      replies.hole(request, offset, length, false);
      return;
    }
    const header = replies.dataHeaderBytes;
    const at = outbound.reserve(header + length);
    const { bytes, view } = outbound.slab;
    replies.putDataHeader(view, at, request, offset, length, false);
    const into = bytes.subarray(at + header, at + header + length);
    let waiting: Completion;
    try {
      waiting = device.read(offset, into);
    } catch (error) {
      outbound.cancel(at);
      this.#refusal ??= this.#flight.explain(request, error);
      return;
    }
    if (waiting !== undefined) this.#await(waiting, outbound.hold(at));
  }

  #await(waiting: Promise<void>, held: Held): void {
    const { outbound } = this.#flight;
    this.#open += 1;
    waiting.then(
      () => {
        outbound.sendHeld(held);
        this.#settled();
      },
      (error: unknown) => {
        outbound.dropHeld(held);
        this.#refusal ??= this.#flight.explain(this.#request, error);
        this.#settled();
      },
    );
  }

  #settled(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    const { replies } = this.#flight;
    if (this.#refusal === undefined) replies.readDone(this.#request);
    else replies.refused(this.#request, this.#refusal);
    this.#flight.end(this.#request);
  }
}

/** One header, then all of the data. */
export class WholeRead implements LargeRead {
  readonly #flight: InFlight;
  readonly #range: ReadRange;
  readonly #inWindows: boolean;
  /** What is sent at once: all of it, or one of several windows. */
  #windowEnd: number;
  #at: number;
  readonly #pieces: Held[] = [];
  /** Pieces of this window under way, and one while pieces of it are still to be begun. */
  #open = 1;
  #begun = false;
  #over = false;
  #refusal: Refusal | undefined;

  constructor(flight: InFlight, range: ReadRange) {
    this.#flight = flight;
    this.#range = range;
    this.#inWindows = range.end - range.at > flight.limits.readWholeMaxBytes;
    this.#at = range.at;
    this.#windowEnd = this.#nextWindow();
  }

  advance(): boolean {
    const { outbound, count } = this.#flight;
    // Nothing may come between two windows, so nothing else may be in flight.
    if (!this.#begun && this.#inWindows && count > 1) return false;
    this.#begun = true;
    while (this.#at < this.#windowEnd) {
      if (outbound.closed) this.#refusal ??= CLIENT_GONE;
      if (this.#refusal !== undefined) {
        this.#at = this.#windowEnd;
      } else {
        if (outbound.full) return false;
        const to = pieceEnd(this.#at, this.#windowEnd, this.#flight.limits);
        this.#piece(this.#at, to - this.#at);
        this.#at = to;
      }
      if (this.#at === this.#windowEnd) this.#settled();
    }
    return this.#over || !this.#inWindows;
  }

  #piece(offset: number, length: number): void {
    const { device, outbound, replies } = this.#flight;
    const { request, at: begin, end } = this.#range;
    const header = offset === begin ? replies.dataHeaderBytes : 0;
    const at = outbound.reserve(header + length);
    if (header > 0) {
      replies.putDataHeader(outbound.slab.view, at, request, begin, end - begin, true);
    }
    const into = outbound.slab.bytes.subarray(at + header, at + header + length);
    this.#pieces.push(outbound.hold(at));
    this.#open += 1;
    attempt(
      () => device.read(offset, into),
      () => this.#settled(),
      (error) => {
        this.#refusal ??= this.#flight.explain(request, error);
        this.#settled();
      },
    );
  }

  #settled(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    const pieces = this.#pieces.splice(0);
    if (this.#refusal !== undefined) this.#fail(pieces, this.#refusal);
    else this.#sendWindow(pieces);
  }

  #sendWindow(pieces: readonly Held[]): void {
    for (const piece of pieces) this.#flight.outbound.sendHeld(piece);
    if (this.#windowEnd === this.#range.end) {
      this.#end();
    } else {
      this.#windowEnd = this.#nextWindow();
      this.#open = 1;
      this.#flight.look();
    }
  }

  #fail(pieces: readonly Held[], refusal: Refusal): void {
    const { outbound, replies, limits } = this.#flight;
    for (const piece of pieces) outbound.dropHeld(piece);
    const { request, at } = this.#range;
    const headerIsOut = this.#windowEnd > at + limits.readWholeMaxBytes;
    if (!headerIsOut) replies.refused(request, refusal);
    else if (!outbound.closed) this.#flight.broken('an error in the middle of a reply');
    this.#end();
  }

  #end(): void {
    this.#over = true;
    this.#flight.end(this.#range.request);
  }

  #nextWindow(): number {
    return Math.min(this.#range.end, this.#at + this.#flight.limits.readWholeMaxBytes);
  }
}

/** What a read is ended with whose reply nobody will read. */
const CLIENT_GONE: Refusal = { errno: ERRNO.ESHUTDOWN, text: 'the client is gone' };

/** Pieces end at multiples of their size on the disk. Pure. */
function pieceEnd(at: number, end: number, limits: NbdLimits): number {
  const size = limits.readPieceBytes;
  return Math.min(end, (Math.floor(at / size) + 1) * size);
}
