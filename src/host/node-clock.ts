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
        let leftMs = delayMs;
        do {
          const stepMs = Math.min(leftMs, TIMER_MAX_MS);
          await setTimeout(stepMs, undefined, signal ? { signal } : {});
          leftMs -= stepMs;
        } while (leftMs > 0);
      } catch (error) {
        throw signal?.aborted ? signal.reason : error;
      }
    },
    yield: () => setImmediate(),
  };
}

/** 24 days; a longer timer of Node's would end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;
