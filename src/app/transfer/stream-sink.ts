import { assert } from '../../base/assert.ts';
import type { ImageSink } from './ends.ts';
import { TRANSFER_LIMITS } from './limits.ts';

const ZEROES = new Uint8Array(TRANSFER_LIMITS.pieceBytes);

/** A disk as bytes that follow each other: holes are written out as zeroes. */
export function streamSink(append: (bytes: Uint8Array) => Promise<void>): ImageSink {
  let end = 0;
  let last = Promise.resolve();
  const next = (at: number, length: number, work: () => Promise<void>): Promise<void> => {
    assert(at === end, 'a stream gets its bytes in order');
    end += length;
    last = last.then(work);
    return last;
  };
  return {
    write: (at, from) => next(at, from.length, () => append(from)),
    zero: (at, length) =>
      next(at, length, async () => {
        for (let done = 0; done < length; done += ZEROES.length) {
          await append(ZEROES.subarray(0, length - done));
        }
      }),
  };
}
