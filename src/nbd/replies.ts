import type { Described } from '../contracts/block-device.ts';
import { CHUNK } from './constants.ts';
import type { Refusal } from './errno.ts';
import {
  CHUNK_HEADER_BYTES,
  EXTENDED_CHUNK_HEADER_BYTES,
  putChunkHeader,
  putExtendedChunkHeader,
  putNumber64,
  putSimpleReply,
  SIMPLE_REPLY_BYTES,
} from './frames.ts';
import type { Asked } from './head.ts';
import type { NbdLimits } from './limits.ts';
import { cutUtf8 } from './options.ts';
import type { Outbound } from './outbound.ts';
import type { ReplyForm } from './validate.ts';

/** What stands before the data of a READ in the payload of its chunk: their offset. */
const OFFSET_BYTES = 8;

/** Writes whole replies, in the form that was agreed. */
export class Replies {
  /** A READ is answered by chunks, and may be by several. */
  readonly structured: boolean;
  /** Everything is answered by chunks, whose headers are longer. */
  readonly #extended: boolean;
  readonly #headerBytes: number;
  /** What comes before the data of a READ. */
  readonly dataHeaderBytes: number;
  readonly #outbound: Outbound;
  readonly #limits: NbdLimits;

  constructor(outbound: Outbound, form: ReplyForm, limits: NbdLimits) {
    this.#outbound = outbound;
    this.#limits = limits;
    this.structured = form !== 'simple';
    this.#extended = form === 'extended';
    this.#headerBytes = this.#extended ? EXTENDED_CHUNK_HEADER_BYTES : CHUNK_HEADER_BYTES;
    this.dataHeaderBytes = this.structured ? this.#headerBytes + OFFSET_BYTES : SIMPLE_REPLY_BYTES;
  }

  /** Success of everything but a READ; simple also where structured replies are agreed. */
  done(request: Asked): void {
    if (this.#extended) this.#chunk(request, CHUNK.NONE, true, 0);
    else this.#simple(request, 0);
  }

  /** The end of a READ whose data went out before, or of one that asked for none. */
  readDone(request: Asked): void {
    if (this.structured) this.#chunk(request, CHUNK.NONE, true, 0);
    else this.#simple(request, 0);
  }

  refused(request: Asked, refusal: Refusal): void {
    if (!this.structured) {
      this.#simple(request, refusal.errno);
      return;
    }
    const text = cutUtf8(refusal.text, this.#limits.errorTextMaxBytes);
    const at = this.#chunk(request, CHUNK.ERROR, true, 6 + text.length);
    const { view, bytes } = this.#outbound.slab;
    view.setUint32(at, refusal.errno);
    view.setUint16(at + 4, text.length);
    bytes.set(text, at + 6);
  }

  /**
   * The `dataHeaderBytes` before `length` bytes of a READ, which begin at `offset` on the disk.
   * @param done  the reply ends with them
   */
  putDataHeader(
    view: DataView,
    at: number,
    request: Asked,
    offset: number,
    length: number,
    done: boolean,
  ): void {
    if (this.structured) {
      this.#putHeader(view, at, request, CHUNK.OFFSET_DATA, done, OFFSET_BYTES + length);
      putNumber64(view, at + this.#headerBytes, offset);
    } else {
      putSimpleReply(view, at, request, 0);
    }
  }

  /** A run of zeroes as part of a READ: offset u64 | length u32. */
  hole(request: Asked, offset: number, length: number, done: boolean): void {
    const at = this.#chunk(request, CHUNK.OFFSET_HOLE, done, 12);
    const { view } = this.#outbound.slab;
    putNumber64(view, at, offset);
    view.setUint32(at + 8, length);
  }

  /** What BLOCK_STATUS tells of one context. */
  blockStatus(
    request: Asked,
    contextId: number,
    extents: readonly Described[],
    done: boolean,
  ): void {
    if (this.#extended) this.#extendedStatus(request, contextId, extents, done);
    else this.#compactStatus(request, contextId, extents, done);
  }

  /** Context id u32, then length u32, flags u32 an extent. */
  #compactStatus(request: Asked, id: number, extents: readonly Described[], done: boolean): void {
    const at = this.#chunk(request, CHUNK.BLOCK_STATUS, done, 4 + 8 * extents.length);
    const { view } = this.#outbound.slab;
    view.setUint32(at, id);
    for (const [index, extent] of extents.entries()) {
      view.setUint32(at + 4 + 8 * index, extent.length);
      view.setUint32(at + 8 + 8 * index, extent.flags);
    }
  }
  /** Context id u32, number of extents u32, then length u64, flags u64 an extent. */
  #extendedStatus(request: Asked, id: number, extents: readonly Described[], done: boolean) {
    const at = this.#chunk(request, CHUNK.BLOCK_STATUS_EXT, done, 8 + 16 * extents.length);
    const { view } = this.#outbound.slab;
    view.setUint32(at, id);
    view.setUint32(at + 4, extents.length);
    for (const [index, extent] of extents.entries()) {
      putNumber64(view, at + 8 + 16 * index, extent.length);
      putNumber64(view, at + 16 + 16 * index, extent.flags);
    }
  }

  #simple(request: Asked, errno: number): void {
    const at = this.#outbound.reserve(SIMPLE_REPLY_BYTES);
    putSimpleReply(this.#outbound.slab.view, at, request, errno);
  }
  /** A chunk with room for its payload. Returns where that begins in the slab. */
  #chunk(request: Asked, type: number, done: boolean, length: number): number {
    const at = this.#outbound.reserve(this.#headerBytes + length);
    this.#putHeader(this.#outbound.slab.view, at, request, type, done, length);
    return at + this.#headerBytes;
  }
  #putHeader(
    view: DataView,
    at: number,
    request: Asked,
    type: number,
    done: boolean,
    length: number,
  ): void {
    if (this.#extended) putExtendedChunkHeader(view, at, request, type, done, length);
    else putChunkHeader(view, at, request, type, done, length);
  }
}
