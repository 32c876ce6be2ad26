import { getRandomValues, randomInt } from 'node:crypto';
import type { Random } from '../contracts/seams.ts';

/** Chance from the operating system. */
export function nodeRandom(): Random {
  return {
    below: (limit) => randomInt(limit),
    bytes: (length) => {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += CALL_BYTES_MAX) {
        getRandomValues(bytes.subarray(at, at + CALL_BYTES_MAX));
      }
      return bytes;
    },
  };
}

/** getRandomValues refuses more in one call. */
const CALL_BYTES_MAX = 65_536;
