import { allSettled } from '../../base/parallel.ts';
import type { Call } from '../../contracts/call.ts';
import type { ImageSink } from './ends.ts';
import { Lanes } from './lanes.ts';
import { TRANSFER_LIMITS } from './limits.ts';
import { type Piece, zeroRuns } from './pieces.ts';

/** Told how many bytes of the disk have arrived. */
export type Arrived = (bytes: number) => void;

/** What a transfer moved. */
export interface Copied {
  /** Of the disk, from its beginning. */
  readonly bytes: number;
  /** Of these, what was written because it is not zero. */
  readonly dataBytes: number;
}

/**
 * Puts every piece where it belongs: data as data, and blocks of zeroes as zeroes, whether the
 * source knew of them or not. Many pieces are under way at once, so that neither side waits for the
 * other. Rejects with the first failure, after everything that was being put has ended; a source
 * that is silent then is not waited for.
 */
export async function copyPieces(
  pieces: AsyncIterable<Piece>,
  sink: ImageSink,
  arrived: Arrived,
  call: Call = {},
): Promise<Copied> {
  let [bytes, dataBytes] = [0, 0];
  const put = async (piece: Piece): Promise<void> => {
    const data = await putPiece(piece, sink);
    piece.release?.();
    bytes += piece.length;
    dataBytes += data;
    arrived(bytes);
  };
  await using lanes = new Lanes(TRANSFER_LIMITS.writeBehind, call);
  const source = pieces[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await lanes.orFailure(source.next());
      if (next.done === true) break;
      await lanes.start(() => put(next.value));
    }
    await lanes.ended();
  } catch (error) {
    source.return?.().catch(() => undefined);
    throw error;
  }
  return { bytes, dataBytes };
}

/** Begins everything in order before it waits; returns how much of it was data. */
async function putPiece({ at, length, bytes }: Piece, sink: ImageSink): Promise<number> {
  if (bytes === undefined) {
    await sink.zero(at, length);
    return 0;
  }
  let [done, dataBytes] = [0, 0];
  const put = async ({ length: part, zero }: { length: number; zero: boolean }) => {
    const from = done;
    done += part;
    if (!zero) dataBytes += part;
    await (zero ? sink.zero(at + from, part) : sink.write(at + from, bytes.subarray(from, done)));
  };
  await allSettled(zeroRuns(bytes).map(put));
  return dataBytes;
}
