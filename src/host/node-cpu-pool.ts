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
import { describeError, SheepError } from '../base/errors.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';
import type { WorkAnswer, WorkerData, WorkRequest, WorkResult } from './cpu-work.ts';

interface Waiting {
  /** When it began to wait. */
  readonly sinceMs: number;
  readonly request: WorkRequest;
  readonly resolve: (result: WorkResult) => void;
  readonly reject: (error: Error) => void;
}

/** A thread and what it was sent, in order. One job is worked on while the next is on its way. */
interface Thread {
  readonly worker: Worker;
  /** When it gave its first answer; undefined: it is still starting. */
  worksSinceMs: number | undefined;
  readonly sent: Map<number, Waiting>;
}
const SENT_MAX = 2;
/** A job that waits longer than it takes to start a thread is worth one more. */
const WAITS_MAX_MS = 50;
/** While others want the processors one thread works; after so long it is tried again with all. */
const CROWDED_MS = 2_000;

/** What a job leaves behind is garbage at once, and the codecs' memory goes with it: collected often. */
const YOUNG = { maxYoungGenerationSizeMb: 2 };

/** The extension of this file: tests run the sources, users what tsc made of them. */
const WORKER = new URL(`./cpu-pool-worker${extname(import.meta.url)}`, import.meta.url);

export interface ThreadPool extends CpuPool {
  /** Starts the first thread, if none runs: for jobs that are not known yet. */
  begin(): void;
}

/**
 * Threads of this process: one is started with the first job, others when jobs have to wait.
 * @param yields  to whoever else wants the processors, our own other threads among them: at nice 10, and
 *                all but one rest while others do
 */
export function nodeCpuPool(threads: number = availableParallelism(), yields = false): ThreadPool {
  return new NodeCpuPool(threads, yields);
}

class NodeCpuPool implements ThreadPool {
  readonly threads: number;
  readonly here = contentWork;
  readonly #yields: boolean;
  readonly #running: Thread[] = [];
  readonly #queue: Waiting[] = [];
  #next = 0;
  #disposed = false;
  /** When others wanted the processors last. */
  #crowdedMs = Number.NEGATIVE_INFINITY;

  constructor(threads: number, yields: boolean) {
    this.threads = threads;
    this.#yields = yields;
  }

  begin(): void {
    if (this.#running.length === 0) this.#start();
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
    this.#queue.push({ request, resolve, reject, sinceMs: performance.now() });
    this.#send();
    return promise as Promise<T>; // a thread answers a job with its kind of result
  }

  /** To the thread that has least to do; to a new one if jobs wait and there may be more. */
  #send(): void {
    for (;;) {
      const [next] = this.#queue;
      if (next === undefined) return;
      if (this.#isWorthAThread(next)) this.#start();
      const [thread] = this.#working().toSorted((a, b) => a.sent.size - b.sent.size);
      if (thread === undefined || thread.sent.size >= SENT_MAX) return;
      this.#queue.shift();
      thread.sent.set(next.request.number, next);
      thread.worker.ref(); // the process lives as long as it waits for an answer
      thread.worker.postMessage(next.request);
    }
  }

  /** One at a time is started, and the next only if that did not help. */
  #isWorthAThread({ sinceMs }: Waiting): boolean {
    if (this.#running.length === 0) return true;
    if (this.#running.length >= this.#wanted) return false;
    let fromMs = sinceMs;
    for (const { worksSinceMs } of this.#running) {
      if (worksSinceMs === undefined) return false;
      fromMs = Math.max(fromMs, worksSinceMs);
    }
    return performance.now() - fromMs >= WAITS_MAX_MS;
  }

  /** How many threads are to have jobs now. */
  get #wanted(): number {
    return performance.now() - this.#crowdedMs < CROWDED_MS ? 1 : this.threads;
  }

  #working(): Thread[] {
    return this.#running.slice(0, this.#wanted);
  }

  #start(): void {
    const workerData: WorkerData = { yields: this.#yields };
    const thread: Thread = {
      worker: new Worker(WORKER, { resourceLimits: YOUNG, workerData }),
      worksSinceMs: undefined,
      sent: new Map(),
    };
    thread.worker.unref(); // until it is sent a job
    thread.worker.on('message', (answer: WorkAnswer) => this.#answered(thread, answer));
    thread.worker.on('error', (cause) => this.#died(thread, describeError(cause), cause));
    thread.worker.on('exit', (status) => this.#died(thread, `it ended with status ${status}`));
    this.#running.push(thread);
  }

  #answered(thread: Thread, answer: WorkAnswer): void {
    const waiting = thread.sent.get(answer.number);
    thread.sent.delete(answer.number);
    const nowMs = performance.now();
    thread.worksSinceMs ??= nowMs;
    if (answer.crowded) this.#crowdedMs = nowMs;
    if (thread.sent.size === 0) thread.worker.unref();
    if ('result' in answer) waiting?.resolve(answer.result);
    else waiting?.reject(new Error(answer.failure));
    this.#send();
  }

  #died(thread: Thread, why: string, cause?: unknown): void {
    const place = this.#running.indexOf(thread);
    if (place >= 0) this.#running.splice(place, 1);
    const message = `a thread that hashes and compresses died: ${why}`;
    const error = new SheepError('ERR_IO', message, {}, cause);
    for (const { reject } of thread.sent.values()) reject(error);
    thread.sent.clear();
    if (!this.#disposed) this.#send();
  }
}
