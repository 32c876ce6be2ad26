import { SheepError } from '../../src/base/errors.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';

/** What a test says of swaps, and is told of them. */
export interface Swaps {
  /** So many are made yet; each after them fails, and changes nothing. */
  left: number;
  /** Of each that was tried, how many keys it had. */
  readonly keys: number[];
  /** The next one that is made and writes this key is the last before the disk is full. */
  lastKey?: string;
}

/** A coordinator whose swaps fail when the test wants it, as on a full disk. */
export function failingCoordinator(inner: Coordinator): {
  readonly coordinator: Coordinator;
  readonly swaps: Swaps;
} {
  const swaps: Swaps = { left: Number.POSITIVE_INFINITY, keys: [] };
  const coordinator: Coordinator = {
    get: (key, call) => inner.get(key, call),
    list: (prefix, call) => inner.list(prefix, call),
    watch: (prefix, after, call) => inner.watch(prefix, after, call),
    lease: (key, value, ttlMs, call) => inner.lease(key, value, ttlMs, call),
    swap: async (changes, call) => {
      swaps.keys.push(changes.length);
      if (swaps.left === 0) throw new SheepError('ERR_NO_SPACE', 'the disk is full');
      swaps.left -= 1;
      const done = await inner.swap(changes, call);
      const isLast = changes.some(({ key, value }) => key === swaps.lastKey && value !== undefined);
      if (done && isLast) swaps.left = 0;
      return done;
    },
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
  return { coordinator, swaps };
}
