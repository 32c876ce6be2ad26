import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  type Compressed,
  type CompressJob,
  contentWork,
  type Flaw,
  type NameJob,
  type ProveJob,
} from '../base/content.ts';
import { SheepError } from '../base/errors.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';
import type { WorkAnswer, WorkerData, WorkRequest, WorkResult } from './cpu-work.ts';

interface Waiting {
  readonly request: WorkRequest;
  readonly resolve: (result: WorkResult) => void;
  readonly reject: (error: Error) => void;
}

/** A thread and what it was sent, in order. One job is worked on while the next is on its way. */
interface Thread {
  readonly worker: Worker;
  readonly sent: Map<number, Waiting>;
}
const SENT_MAX = 2;

/** What a job leaves behind is garbage at once, and the codecs' memory goes with it: collected often. */
const YOUNG = { maxYoungGenerationSizeMb: 2 };

/** The extension of this file: tests run the sources, users what tsc made of them. */
const WORKER = new URL(`./cpu-pool-worker${extname(import.meta.url)}`, import.meta.url);

/**
 * Threads of this process, started with the first jobs.
 * @param nice  of them alone, as of nice(1): above 0 they yield to whoever else wants the processor,
 *              our own other threads among them
 */
export function nodeCpuPool(threads: number = availableParallelism(), nice = 0): CpuPool {
  return new NodeCpuPool(threads, nice);
}

class NodeCpuPool implements CpuPool {
  readonly threads: number;
  readonly here = contentWork;
  readonly #nice: number;
  readonly #running: Thread[] = [];
  readonly #queue: Waiting[] = [];
  #next = 0;
  #disposed = false;

  constructor(threads: number, nice: number) {
    this.threads = threads;
    this.#nice = nice;
  }

  memory(bytes: number): Uint8Array {
    return new Uint8Array(new SharedArrayBuffer(bytes));
  }
  name(job: NameJob): Promise<Uint8Array> {
    return this.#ask({ kind: 'name', job, number: this.#number() });
  }
  compress(job: CompressJob): Promise<Compressed[]> {
    return this.#ask({ kind: 'compress', job, number: this.#number() });
  }
  prove(job: ProveJob): Promise<(Flaw | undefined)[]> {
    return this.#ask({ kind: 'prove', job, number: this.#number() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const gone = new SheepError('ERR_SHUTDOWN', 'the threads are gone');
    for (const { reject } of this.#queue.splice(0)) reject(gone);
    const threads = this.#running.splice(0);
    for (const { sent } of threads) for (const { reject } of sent.values()) reject(gone);
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #number(): number {
    this.#next += 1;
    return this.#next;
  }

  #ask<T extends WorkResult>(request: WorkRequest): Promise<T> {
    if (this.#disposed) {
      return Promise.reject(new SheepError('ERR_SHUTDOWN', 'the threads are gone'));
    }
    const { promise, resolve, reject } = Promise.withResolvers<WorkResult>();
    this.#queue.push({ request, resolve, reject });
    this.#send();
    return promise as Promise<T>; // a thread answers a job with its kind of result
  }

  /** To the thread that has least to do; a new one if all are busy and there may be more. */
  #send(): void {
    while (this.#queue.length > 0) {
      let thread = this.#running.toSorted((a, b) => a.sent.size - b.sent.size)[0];
      if ((thread === undefined || thread.sent.size > 0) && this.#running.length < this.threads) {
        thread = this.#start();
      }
      if (thread === undefined || thread.sent.size >= SENT_MAX) return;
      const next = this.#queue.shift();
      if (next === undefined) return;
      thread.sent.set(next.request.number, next);
      thread.worker.ref(); // the process lives as long as it waits for an answer
      thread.worker.postMessage(next.request);
    }
  }

  #start(): Thread {
    const workerData: WorkerData = { nice: this.#nice };
    const thread: Thread = {
      worker: new Worker(WORKER, { resourceLimits: YOUNG, workerData }),
      sent: new Map(),
    };
    thread.worker.on('message', (answer: WorkAnswer) => this.#answered(thread, answer));
    thread.worker.on('error', (cause) => this.#died(thread, cause));
    thread.worker.on('exit', () => this.#died(thread));
    this.#running.push(thread);
    return thread;
  }

  #answered(thread: Thread, answer: WorkAnswer): void {
    const waiting = thread.sent.get(answer.number);
    thread.sent.delete(answer.number);
    if (thread.sent.size === 0) thread.worker.unref();
    if ('result' in answer) waiting?.resolve(answer.result);
    else waiting?.reject(new Error(answer.failure));
    this.#send();
  }

  #died(thread: Thread, cause?: unknown): void {
    const place = this.#running.indexOf(thread);
    if (place >= 0) this.#running.splice(place, 1);
    const error = new SheepError('ERR_IO', 'a thread of the processor pool died', {}, cause);
    for (const { reject } of thread.sent.values()) reject(error);
    thread.sent.clear();
    if (!this.#disposed) this.#send();
  }
}
