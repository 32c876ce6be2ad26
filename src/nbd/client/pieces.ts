import { BLOCK_BYTES, roundDown, roundUp } from '../../base/units.ts';
import type { ReplyForm } from '../validate.ts';
import type { BlockSizes } from './terms.ts';

export interface Piece {
  readonly at: number;
  readonly length: number;
}

/** Longer reads and writes are several requests, so that a server works at some while others travel. */
const REQUEST_MAX_BYTES = 4 * 1024 * 1024;
/** What a compact request without data may cover, in 32 bits; a multiple of any object size. */
const COMPACT_EFFECT_STEP = 2 ** 32 - 64 * 1024 * 1024;

/** How much one request without data may cover: with extended headers, any disk. */
export function effectStep(form: ReplyForm): number {
  return form === 'extended' ? Number.MAX_SAFE_INTEGER : COMPACT_EFFECT_STEP;
}

/** How much data one request may carry: a whole number of blocks, ours and the server's. */
export function payloadStep({ preferredBytes, minimumBytes, payloadMaxBytes }: BlockSizes): number {
  const max = Math.min(payloadMaxBytes, REQUEST_MAX_BYTES);
  const unit = Math.max(BLOCK_BYTES, preferredBytes);
  if (max >= unit) return roundDown(max, unit);
  return Math.max(minimumBytes, roundDown(max, minimumBytes));
}

/** Cuts a range at the multiples of `step` on the disk. */
export function* pieces(at: number, length: number, step: number): Generator<Piece> {
  const end = at + length;
  while (at < end) {
    const to = Math.min(end, roundDown(at, step) + step);
    yield { at, length: to - at };
    at = to;
  }
}

/** What of a trimmed range has to read as zero: its whole blocks, and the last of the disk. */
export function wholeBlocks({ at, length }: Piece, sizeBytes: number): Piece {
  const from = roundUp(at, BLOCK_BYTES);
  const end = at + length;
  const to = end === sizeBytes ? end : roundDown(end, BLOCK_BYTES);
  return { at: from, length: Math.max(0, to - from) };
}
