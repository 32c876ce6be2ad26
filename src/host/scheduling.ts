import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import koffi from 'koffi';

/** sched_setscheduler(2) and setpriority(2), of every thread of this process: Linux keeps both for each. */

const SCHED_IDLE = 5;
/** As of nice(1): beside a thread of the usual priority that never rests, a tenth of a processor. */
const NICE = 10;

/**
 * `idle`: what others leave of the processors, and hardly anything where they never rest; who wakes
 * up gets a processor on which only such a thread runs as if it were free. `nice`: a tenth at least.
 */
export function yieldAsFarAs(how: 'idle' | 'nice'): void {
  try {
    const setScheduler: (thread: number, policy: number, priority: Int32Array) => number = koffi
      .load(null)
      .func('int sched_setscheduler(int thread, int policy, int32_t *priority)');
    for (const name of readdirSync('/proc/self/task')) {
      const thread = Number(name);
      setPriority(thread, NICE);
      if (how === 'idle') setScheduler(thread, SCHED_IDLE, Int32Array.of(0));
    }
  } catch {
    // Without /proc or the right to it: the work counts, at whatever priority.
  }
}
