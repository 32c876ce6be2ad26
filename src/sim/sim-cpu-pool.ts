import { type ContentWork, contentWork } from '../base/content.ts';
import { SheepError } from '../base/errors.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';

/** Does every job in this thread, in a later microtask. */
export function simCpuPool(work: ContentWork = contentWork): CpuPool {
  let disposed = false;
  const later = async <T>(act: () => T): Promise<T> => {
    await Promise.resolve();
    if (disposed) throw new SheepError('ERR_SHUTDOWN', 'the threads are gone');
    return act();
  };
  return {
    threads: 2,
    memory: (bytes) => new Uint8Array(bytes),
    name: (job) => later(() => work.name(job)),
    compress: (job) => later(() => work.compress(job)),
    prove: (job) => later(() => work.prove(job)),
    here: work,
    [Symbol.asyncDispose]: async () => {
      disposed = true;
    },
  };
}
