import { randomFillSync, randomInt } from 'node:crypto';
import type { Random } from '../contracts/seams.ts';

/** Chance from the operating system. */
export function nodeRandom(): Random {
  return {
    below: (limit) => randomInt(limit),
    bytes: (length) => randomFillSync(new Uint8Array(length)),
  };
}
