import type { Described } from '../contracts/block-device.ts';
import { CHUNK } from './constants.ts';
import type { Refusal } from './errno.ts';
import {
  CHUNK_HEADER_BYTES,
  errorChunk,
  HOLE_CHUNK_BYTES,
  putChunkHeader,
  putOffset,
  putSimpleReply,
  SIMPLE_REPLY_BYTES,
} from './frames.ts';
import type { NbdLimits } from './limits.ts';
import { cutUtf8 } from './options.ts';
import type { Outbound } from './outbound.ts';

/** Writes whole replies, in the form that was agreed. */
export class Replies {
  readonly structured: boolean;
  readonly #outbound: Outbound;
  readonly #limits: NbdLimits;

  constructor(outbound: Outbound, structured: boolean, limits: NbdLimits) {
    this.#outbound = outbound;
    this.structured = structured;
    this.#limits = limits;
  }

  /** Success of everything but a READ; simple also where structured replies are agreed. */
  done(high: number, low: number): void {
    const at = this.#outbound.reserve(SIMPLE_REPLY_BYTES);
    putSimpleReply(this.#outbound.slab.view, at, high, low, 0);
  }

  /** The end of a READ whose data went out before, or of one that asked for none. */
  readDone(high: number, low: number): void {
    if (this.structured) {
      const at = this.#outbound.reserve(CHUNK_HEADER_BYTES);
      putChunkHeader(this.#outbound.slab.view, at, high, low, CHUNK.NONE, true, 0);
    } else {
      this.done(high, low);
    }
  }

  refused(high: number, low: number, refusal: Refusal): void {
    if (this.structured) {
      const text = cutUtf8(refusal.text, this.#limits.errorTextMaxBytes);
      this.#outbound.put(errorChunk(high, low, refusal.errno, text));
    } else {
      const at = this.#outbound.reserve(SIMPLE_REPLY_BYTES);
      putSimpleReply(this.#outbound.slab.view, at, high, low, refusal.errno);
    }
  }

  /** A run of zeroes as part of a READ: offset u64 | length u32. */
  hole(high: number, low: number, offset: number, length: number, done: boolean): void {
    const at = this.#outbound.reserve(HOLE_CHUNK_BYTES);
    const { view } = this.#outbound.slab;
    putChunkHeader(view, at, high, low, CHUNK.OFFSET_HOLE, done, 12);
    putOffset(view, at + 20, offset);
    view.setUint32(at + 28, length);
  }

  /** What BLOCK_STATUS tells of one context: its id u32, then length u32, flags u32 an extent. */
  blockStatus(
    high: number,
    low: number,
    contextId: number,
    extents: readonly Described[],
    done: boolean,
  ): void {
    const length = 4 + 8 * extents.length;
    const at = this.#outbound.reserve(CHUNK_HEADER_BYTES + length);
    const { view } = this.#outbound.slab;
    putChunkHeader(view, at, high, low, CHUNK.BLOCK_STATUS, done, length);
    view.setUint32(at + 20, contextId);
    for (const [index, extent] of extents.entries()) {
      view.setUint32(at + 24 + 8 * index, extent.length);
      view.setUint32(at + 28 + 8 * index, extent.flags);
    }
  }
}
