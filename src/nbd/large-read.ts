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
 *   flight, and an error after the first window can only close the connection ("Simple reply"). So
 *   is a shorter one while others hold so much reply memory that there is only one slab to be had.
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

/**
 * One header, then all of the data. The slabs of a window are taken all at once: two that each had a
 * part of what they need could wait for each other.
 */
export class WholeRead implements LargeRead {
  readonly #flight: InFlight;
  readonly #range: ReadRange;
  readonly #pieces: Held[] = [];
  #at: number;
  /** Of the window that is under way, pieces and one while they are begun; 0: none is. */
  #open = 0;
  #inWindows = false;
  #headerIsOut = false;
  #over = false;
  #refusal: Refusal | undefined;

  constructor(flight: InFlight, range: ReadRange) {
    this.#flight = flight;
    this.#range = range;
    this.#at = range.at;
  }

  advance(): boolean {
    const { outbound, count } = this.#flight;
    const { at, end } = this.#range;
    while (this.#open === 0 && !this.#over) {
      if (outbound.closed) {
        this.#fail([], CLIENT_GONE);
        break;
      }
      const to = this.#windowEnd();
      if (to === undefined) return false;
      if (this.#at === at) this.#inWindows = to < end;
      // Nothing may come between two windows, so nothing else may be in flight.
      if (this.#inWindows && !this.#headerIsOut && count > 1) return false;
      this.#window(to);
    }
    return this.#over || !this.#inWindows;
  }

  /** Where the next window ends: all that is sent at once; undefined: it has to wait. */
  #windowEnd(): number | undefined {
    const { outbound, limits } = this.#flight;
    const { end } = this.#range;
    const to = Math.min(end, this.#at + limits.readWholeMaxBytes);
    if (outbound.mayTake(pieceCount(this.#at, to, limits))) return to;
    // What it has itself comes back; what others have, perhaps not.
    return outbound.taken > 0 ? undefined : pieceEnd(this.#at, end, limits);
  }

  #window(end: number): void {
    this.#open = 1;
    while (this.#at < end && this.#refusal === undefined) {
      const to = pieceEnd(this.#at, end, this.#flight.limits);
      this.#piece(this.#at, to - this.#at);
      this.#at = to;
    }
    this.#settled();
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
    this.#headerIsOut = true;
    if (this.#at === this.#range.end) this.#end();
    else this.#flight.look();
  }

  #fail(pieces: readonly Held[], refusal: Refusal): void {
    const { outbound, replies } = this.#flight;
    for (const piece of pieces) outbound.dropHeld(piece);
    if (!this.#headerIsOut) replies.refused(this.#range.request, refusal);
    else if (!outbound.closed) this.#flight.broken('an error in the middle of a reply');
    this.#end();
  }

  #end(): void {
    this.#over = true;
    this.#flight.end(this.#range.request);
  }
}

/** What a read is ended with whose reply nobody will read. */
const CLIENT_GONE: Refusal = { errno: ERRNO.ESHUTDOWN, text: 'the client is gone' };

/** How many pieces a run is read in. Pure. */
function pieceCount(at: number, end: number, { readPieceBytes: size }: NbdLimits): number {
  return Math.ceil(end / size) - Math.floor(at / size);
}

/** Pieces end at multiples of their size on the disk. Pure. */
function pieceEnd(at: number, end: number, limits: NbdLimits): number {
  const size = limits.readPieceBytes;
  return Math.min(end, (Math.floor(at / size) + 1) * size);
}
