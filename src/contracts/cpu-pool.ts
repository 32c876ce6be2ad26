import type {
  Compressed,
  CompressJob,
  ContentWork,
  Flaw,
  NameJob,
  ProveJob,
} from '../base/content.ts';

/**
 * Threads or processes that name, compress and prove content while this thread goes on. Suite:
 * test/contracts/cpu-pool.ts.
 *
 * The memory of a job comes from `memory` and is lent until the job settles; jobs settle in any
 * order. A job rejects with SheepError `ERR_SHUTDOWN` once the pool is disposed, and with `ERR_IO`
 * if whoever did it died; the others go on.
 */
export interface CpuPool extends AsyncDisposable {
  /** How many jobs are worked on at once: give it a few more, so that none waits for the next. */
  readonly threads: number;
  /** Memory that all of them see. It is little, so what is not used any more is given back. */
  memory(bytes: number): Uint8Array;
  /** @param memory  as `memory` returned it, and no job has it */
  giveBack(memory: Uint8Array): void;
  name(job: NameJob): Promise<Uint8Array>;
  compress(job: CompressJob): Promise<Compressed[]>;
  prove(job: ProveJob): Promise<(Flaw | undefined)[]>;
  /** The same at once, in this thread and on any memory: for what takes less than the way there. */
  readonly here: ContentWork;
}
