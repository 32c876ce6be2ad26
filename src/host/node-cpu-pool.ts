import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describeError } from '../base/errors.ts';
import type { WorkAnswer, WorkRequest } from './cpu-work.ts';
import { type WorkerKind, WorkerPool } from './worker-pool.ts';

/** What a job leaves behind is garbage at once, and the codecs' memory goes with it: collected often. */
const YOUNG = { maxYoungGenerationSizeMb: 2 };
/** The extension of this file: tests run the sources, users what tsc made of them. */
const WORKER = new URL(`./cpu-pool-worker${extname(import.meta.url)}`, import.meta.url);

/**
 * Threads of this process, for a program that serves nobody meanwhile: one is started with the first job,
 * others when jobs have to wait.
 */
export function nodeCpuPool(threads: number = availableParallelism()): WorkerPool {
  return new WorkerPool(threads, THREADS);
}

const THREADS: WorkerKind = {
  one: 'a thread',
  helps: true,
  memory: (bytes) => new Uint8Array(new SharedArrayBuffer(bytes)),
  giveBack: () => undefined, // what nobody refers to is free
  start: ({ answered, ended }) => {
    const worker = new Worker(WORKER, { resourceLimits: YOUNG });
    worker.on('message', (answer: WorkAnswer) => answered(answer));
    worker.on('error', (cause) => ended(describeError(cause), cause));
    worker.on('exit', (status) => ended(`it ended with status ${status}`));
    return {
      post: (request: WorkRequest) => worker.postMessage(request),
      ref: () => worker.ref(),
      unref: () => worker.unref(),
      end: async () => void (await worker.terminate()),
    };
  },
  end: async () => undefined,
};
