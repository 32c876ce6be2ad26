import { assert } from '../base/assert.ts';
import { type ContentWork, contentWork } from '../base/content.ts';
import { SheepError } from '../base/errors.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';

/** Nobody takes for content what he has given back. */
const GARBAGE = 0xdb;

/** Does every job in this thread, in a later microtask. */
export function simCpuPool(work: ContentWork = contentWork): CpuPool {
  let disposed = false;
  const lent = new WeakSet<Uint8Array>();
  const later = async <T>(act: () => T): Promise<T> => {
    await Promise.resolve();
    if (disposed) throw new SheepError('ERR_SHUTDOWN', 'the threads are gone');
    return act();
  };
  return {
    threads: 2,
    memory: (bytes) => {
      const memory = new Uint8Array(bytes);
      lent.add(memory);
      return memory;
    },
    giveBack: (memory) => {
      assert(lent.delete(memory), 'memory is given back once, as it was taken');
      memory.fill(GARBAGE);
    },
    name: (job) => later(() => work.name(job)),
    compress: (job) => later(() => work.compress(job)),
    prove: (job) => later(() => work.prove(job)),
    here: work,
    [Symbol.asyncDispose]: async () => {
      disposed = true;
    },
  };
}
