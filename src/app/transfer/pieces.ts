import { BLOCK_BYTES, roundDown } from '../../base/units.ts';
import type { Call } from '../../contracts/call.ts';
import { isZero } from '../../farm/checksums.ts';
import type { ImageSource, Run } from './ends.ts';
import { TRANSFER_LIMITS } from './limits.ts';
import { loadAhead } from './read-ahead.ts';

/** A part of a disk; without `bytes` it reads as zero. */
export interface Piece {
  readonly at: number;
  readonly length: number;
  readonly bytes?: Uint8Array;
  /** Whoever got the piece is done with `bytes`. */
  readonly release?: () => void;
}

/** Memory for pieces, used again and again; as much as there ever are pieces at once. */
export class PieceMemory {
  readonly #free: Uint8Array[] = [];

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(TRANSFER_LIMITS.pieceBytes);
  }
  give(memory: Uint8Array): void {
    this.#free.push(memory);
  }
}

/** Where a piece that begins at `at` ends at the latest: requests cross no border of objects. */
export function pieceEnd(at: number): number {
  return roundDown(at, TRANSFER_LIMITS.pieceBytes) + TRANSFER_LIMITS.pieceBytes;
}

/** The whole source in order: zero runs as they come, and data cut to pieces. Nothing is read yet. */
async function* planOf(
  source: ImageSource,
  call: Call,
): AsyncGenerator<{ at: number; length: number; zero: boolean }> {
  for (let at = 0; at < source.sizeBytes; ) {
    for (const { length, zero } of await source.runs(at, source.sizeBytes - at, call)) {
      for (const end = at + length; at < end; ) {
        const to = zero ? end : Math.min(end, pieceEnd(at));
        yield { at, length: to - at, zero };
        at = to;
      }
    }
  }
}

/** All of a source in order. */
export function readPieces(source: ImageSource, call: Call = {}): AsyncGenerator<Piece> {
  const memory = new PieceMemory();
  return loadAhead(
    planOf(source, call),
    async ({ at, length, zero }): Promise<Piece> => {
      if (zero) return { at, length };
      const whole = memory.take();
      const bytes = whole.subarray(0, length);
      await source.read(at, bytes, call);
      return { at, length, bytes, release: () => memory.give(whole) };
    },
    call,
  );
}

/** The chunks of a stream as pieces, each full but for the last. */
export async function* streamPieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Piece> {
  const memory = new PieceMemory();
  let [at, filled, whole] = [0, 0, memory.take()];
  const piece = (): Piece => {
    const taken = whole;
    const bytes = taken.subarray(0, filled);
    return { at, length: filled, bytes, release: () => memory.give(taken) };
  };
  for await (const chunk of chunks) {
    for (let used = 0; used < chunk.length; ) {
      const part = chunk.subarray(used, used + whole.length - filled);
      whole.set(part, filled);
      filled += part.length;
      used += part.length;
      if (filled < whole.length) continue;
      yield piece();
      [at, filled, whole] = [at + filled, 0, memory.take()];
    }
  }
  if (filled > 0) yield piece();
}

/** Which blocks of `bytes` are zero, as runs; a part of a block at the end counts as one. */
export function zeroRuns(bytes: Uint8Array): Run[] {
  const runs: { length: number; zero: boolean }[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const zero = isZero(block);
    const last = runs.at(-1);
    if (last?.zero === zero) last.length += block.length;
    else runs.push({ length: block.length, zero });
  }
  return runs;
}
