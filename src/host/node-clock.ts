import { setImmediate, setTimeout } from 'node:timers/promises';
import { assert } from '../base/assert.ts';
import type { Clock } from '../contracts/seams.ts';

/** Node's clocks and timers. */
export function nodeClock(): Clock {
  let newestMs = 0;
  return {
    wallMs: () => Date.now(),
    monotonicMs: () => {
      const nowMs = performance.now();
      assert(nowMs >= newestMs, 'monotonic time does not run back');
      newestMs = nowMs;
      return nowMs;
    },
    sleep: async (delayMs, { signal } = {}) => {
      try {
        // Node would turn a longer delay into 1 ms.
        assert(delayMs <= DELAY_MAX_MS, 'a sleep is at most 24 days');
        await setTimeout(delayMs, undefined, signal ? { signal } : {});
      } catch (error) {
        throw signal?.aborted ? signal.reason : error;
      }
    },
    yield: () => setImmediate(),
  };
}

const DELAY_MAX_MS = 2 ** 31 - 1;
