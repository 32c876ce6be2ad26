import { assert } from '../base/assert.ts';
import type { Random } from '../contracts/seams.ts';

/**
 * Chance that a seed decides: the generator sfc32 (PractRand, Chris Doty-Humphrey). A step of it can
 * be undone, and the whole seed stands in its state, so no two seeds ever meet in one state.
 * @param seed a whole number from 0 to 2^53 - 1
 */
export function simRandom(seed: number): Random {
  assert(Number.isSafeInteger(seed) && seed >= 0, 'a seed is a whole number');
  let a = seed | 0;
  let b = Math.floor(seed / 2 ** 32) | 0;
  let c = 0x9e3779b9 | 0;
  let counter = 1;
  const word = (): number => {
    const mixed = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + mixed) | 0;
    return mixed >>> 0;
  };
  for (let round = 0; round < WARM_UP_ROUNDS; round += 1) word();

  return {
    below: (limit) => {
      assert(Number.isInteger(limit) && limit >= 1 && limit < 2 ** 48, 'a limit is 1 to 2^48 - 1');
      // Numbers above the last whole multiple would make the small ones likelier.
      const fair = 2 ** 53 - (2 ** 53 % limit);
      for (;;) {
        const drawn = (word() >>> 11) * 2 ** 32 + word();
        if (drawn < fair) return drawn % limit;
      }
    },
    bytes: (length) => {
      const words = new Uint32Array(Math.ceil(length / 4));
      for (let index = 0; index < words.length; index += 1) words[index] = word();
      return new Uint8Array(words.buffer, 0, length);
    },
  };
}

/** Until every bit of the seed has reached every word. */
const WARM_UP_ROUNDS = 15;
