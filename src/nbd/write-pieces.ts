import { BLOCK_BYTES, roundDown } from '../base/units.ts';
import type { Loan } from '../contracts/net.ts';

/**
 * How many of the next bytes of a payload make a piece, 0 if they have to wait for more. Pure.
 * A piece ends at a block border of the disk or with the payload, so that an aligned block is
 * entirely old or entirely new however the connection ends.
 * @param at        byte on the disk where these bytes go
 * @param available how many there are
 * @param last      the payload ends with them
 */
export function pieceLength(at: number, available: number, last: boolean, max: number): number {
  const room = roundDown(at + max, BLOCK_BYTES) - at;
  if (available > room) return room;
  if (last) return available;
  return Math.max(0, roundDown(at + available, BLOCK_BYTES) - at);
}

/** Where the pieces of a payload go. */
export interface PieceSink {
  /**
   * Hands a piece to the device. `lent`: keeps `piece` as it is for as long as the device needs it.
   */
  piece(at: number, piece: Uint8Array, lent: Loan): void;
  /** The rest of the payload will not come. */
  abandoned(): void;
}

/** A block's worth of memory for what is left at the end of a chunk; replaced while it is lent. */
export class Carry implements Loan {
  bytes = new Uint8Array(BLOCK_BYTES);
  length = 0;
  /** The device keeps the block: the next one goes elsewhere, and this one to the collector. */
  hold(): void {
    this.bytes = new Uint8Array(BLOCK_BYTES);
  }
  release(): void {}
}

/** The payload of one WRITE that does not lie in one chunk or is longer than a piece. */
export class WritePieces {
  readonly #carry: Carry;
  readonly #sink: PieceSink;
  readonly #max: number;
  /** Where the first byte that is not yet in a piece goes. */
  #at: number;

  /** @param carry  the connection's; empty between two payloads */
  constructor(at: number, carry: Carry, max: number, sink: PieceSink) {
    this.#at = at;
    this.#carry = carry;
    this.#max = max;
    this.#sink = sink;
  }

  /** The next bytes as they arrived; `loan` is that of their chunk. */
  push(bytes: Uint8Array, last: boolean, loan: Loan): void {
    let from = this.#carry.length === 0 ? 0 : this.#fillCarry(bytes, last);
    while (from < bytes.length) {
      const length = pieceLength(this.#at, bytes.length - from, last, this.#max);
      if (length === 0) {
        this.#carry.bytes.set(bytes.subarray(from));
        this.#carry.length = bytes.length - from;
        return;
      }
      this.#sink.piece(this.#at, bytes.subarray(from, from + length), loan);
      this.#at += length;
      from += length;
    }
  }

  /** The connection ended in the middle: an unfinished block is not written. */
  abandon(): void {
    this.#carry.length = 0;
    this.#sink.abandoned();
  }

  /** Completes the block that an earlier chunk left unfinished; returns the bytes used for it. */
  #fillCarry(bytes: Uint8Array, last: boolean): number {
    const carry = this.#carry;
    const missing = BLOCK_BYTES - (this.#at % BLOCK_BYTES) - carry.length;
    const used = Math.min(missing, bytes.length);
    carry.bytes.set(bytes.subarray(0, used), carry.length);
    carry.length += used;
    if (used < missing && !(last && used === bytes.length)) return used;
    const piece = carry.bytes.subarray(0, carry.length);
    carry.length = 0;
    this.#sink.piece(this.#at, piece, carry);
    this.#at += piece.length;
    return used;
  }
}
