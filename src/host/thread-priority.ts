import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import koffi from 'koffi';

/**
 * How a thread yields to all that is not one of these. `spare`: it takes what nobody else wants of the
 * processors, and wherever it runs counts as idle for whoever wakes up. `share`: a tenth of a processor
 * beside a thread of the usual priority, however long that goes on.
 */
export type Yielding = 'spare' | 'share';

/** sched_setattr(2): the C library of Debian 12 has no function for it. */
const SCHED_SETATTR: Partial<Record<NodeJS.Architecture, number>> = {
  x64: 314,
  arm64: 274,
  riscv64: 274,
  loong64: 274,
};
/** sched(7): SCHED_IDLE and SCHED_BATCH. Neither ever interrupts a thread that runs. */
const POLICY: Readonly<Record<Yielding, number>> = { spare: 5, share: 3 };
const NICE = 10;
/** struct sched_attr of the first version: size, policy, flags, nice, priority, runtime, … */
const ATTR_BYTES = 48;

/** Has the thread that calls it yield from now on. */
export function yieldToOthers(how: Yielding): void {
  try {
    if (!setAttributes(how)) setPriority(ownThreadId(), NICE);
  } catch {
    // Without /proc or the right to it: the work counts, at whatever priority.
  }
}

function setAttributes(how: Yielding): boolean {
  const number = SCHED_SETATTR[process.arch];
  if (number === undefined) return false;
  const syscall: (number: number, thread: number, attributes: Uint8Array, flags: number) => number =
    koffi
      .load(null)
      .func('int64_t syscall(int64_t number, int64_t thread, void *attr, uint32_t flags)');
  const attributes = new Uint8Array(ATTR_BYTES);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, ATTR_BYTES, true);
  view.setUint32(4, POLICY[how], true);
  view.setInt32(16, NICE, true);
  return syscall(number, 0, attributes, 0) === 0;
}

/** Linux keeps a priority for each thread, and setpriority(2) takes the ID of one. */
function ownThreadId(): number {
  return Number(basename(readlinkSync('/proc/thread-self')));
}
