import { assert } from '../base/assert.ts';
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
import { answerTo, type WorkAnswer, type WorkRequest, type WorkResult } from './cpu-work.ts';

/** A thread or a process. */
export interface PoolWorker {
  post(request: WorkRequest): void;
  /** Whether this process lives on as long as it does. */
  ref(): void;
  unref(): void;
  end(): Promise<void>;
}
export interface WorkerEvents {
  answered(answer: WorkAnswer): void;
  /** It never was, and has done nothing of what it was sent. */
  failed(cause: unknown): void;
  /** It is gone, and what it was doing is done in part. May be told more than once. */
  ended(why: string, cause?: unknown): void;
}
/** What the workers of a pool are, and the memory that they see. */
export interface WorkerKind {
  /** What people call it, with its article. */
  readonly one: string;
  memory(bytes: number): Uint8Array;
  giveBack(memory: Uint8Array): void;
  /** @throws what keeps it from being started */
  start(events: WorkerEvents): PoolWorker;
  /** Whether this thread, which serves nobody, does jobs itself while few workers have begun. */
  readonly helps: boolean;
  /** One that gets a processor also where the others get none. */
  startSpare?(events: WorkerEvents): PoolWorker;
  /** After all workers. */
  end(): Promise<void>;
}

interface Waiting {
  readonly request: WorkRequest;
  readonly resolve: (result: WorkResult) => void;
  readonly reject: (error: Error) => void;
  /** When it began to wait, for a worker or for an answer. */
  sinceMs: number;
}

/** A worker and what it was sent, in order. One job is worked on while the next is on its way. */
interface Busy {
  readonly worker: PoolWorker;
  /** When it gave its first answer; undefined: it is still starting. */
  worksSinceMs: number | undefined;
  readonly sent: Map<number, Waiting>;
}
const SENT_MAX = 2;
/** A job that waits longer than it takes to start a worker is worth one more. */
const WAITS_MAX_MS = 50;
/** Above, this thread has enough to do with what it hands to them. */
const HELPED_MAX = 1;
/** A job takes milliseconds. One that takes longer than this got no processor. */
const STARVED_MS = 1_000;
/** So long the spare one works instead of the others; then they are tried again. */
const SPARE_MS = 30_000;
/** Who waits for it, an abort or a stop among them, waits no longer: it is ended. */
const HUNG_MS = 60_000;
/** Where one could not be started, or ended at once, the next is not started before this. */
const START_AGAIN_MS = 1_000;

/** Workers that are started as jobs have to wait for them. */
export class WorkerPool implements CpuPool {
  readonly threads: number;
  readonly here = contentWork;
  readonly #kind: WorkerKind;
  readonly #usual: Busy[] = [];
  readonly #spare: Busy[] = [];
  readonly #queue: Waiting[] = [];
  #next = 0;
  #disposed = false;
  #starvedMs = Number.NEGATIVE_INFINITY;
  #helping = false;
  /** Why the latest start came to nothing, and when. */
  #notStarted: { readonly error: SheepError; readonly sinceMs: number } | undefined;
  #watch: NodeJS.Timeout | undefined;

  constructor(threads: number, kind: WorkerKind) {
    this.threads = threads;
    this.#kind = kind;
  }

  /** Starts the first worker, if none runs: for jobs that are not known yet. */
  begin(): void {
    if (!this.#disposed && this.#usual.length === 0) this.#start(this.#usual);
  }

  memory(bytes: number): Uint8Array {
    return this.#kind.memory(bytes);
  }
  giveBack(memory: Uint8Array): void {
    this.#kind.giveBack(memory);
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
    clearInterval(this.#watch);
    const gone = new SheepError('ERR_SHUTDOWN', `${this.#kind.one} for it is gone`);
    for (const { reject } of this.#queue.splice(0)) reject(gone);
    const workers = [...this.#usual.splice(0), ...this.#spare.splice(0)];
    for (const { sent } of workers) for (const { reject } of sent.values()) reject(gone);
    await Promise.all(workers.map(({ worker }) => worker.end()));
    await this.#kind.end();
  }

  #number(): number {
    this.#next += 1;
    return this.#next;
  }

  #ask<T extends WorkResult>(request: WorkRequest): Promise<T> {
    if (this.#disposed) {
      return Promise.reject(new SheepError('ERR_SHUTDOWN', `${this.#kind.one} for it is gone`));
    }
    const { promise, resolve, reject } = Promise.withResolvers<WorkResult>();
    this.#queue.push({ request, resolve, reject, sinceMs: performance.now() });
    this.#send();
    return promise as Promise<T>; // a worker answers a job with its kind of result
  }

  /** To the worker that has least to do; to a new one if jobs wait and there may be more. */
  #send(): void {
    for (;;) {
      const [next] = this.#queue;
      if (next === undefined) return;
      const [workers, most] = this.#isStarved ? [this.#spare, 1] : [this.#usual, this.threads];
      if (this.#mayStart && isWorthAnother(next, workers, most)) this.#start(workers);
      const [busy] = workers.toSorted((a, b) => a.sent.size - b.sent.size);
      if (busy === undefined && workers === this.#spare) {
        this.#starvedMs = Number.NEGATIVE_INFINITY; // then as well as it goes with the others
        continue;
      }
      if (busy === undefined) {
        this.#giveUp();
        return;
      }
      if (busy.sent.size >= SENT_MAX) {
        this.#help();
        return;
      }
      this.#queue.shift();
      next.sinceMs = performance.now();
      busy.sent.set(next.request.number, next);
      busy.worker.ref(); // the process lives as long as it waits for an answer
      busy.worker.post(next.request);
    }
  }

  /** The first job that waits, in a turn of its own: what is to be read and written goes on between. */
  #help(): void {
    const working = this.#usual.filter(({ worksSinceMs }) => worksSinceMs !== undefined).length;
    if (!this.#kind.helps || this.#helping || working >= Math.min(this.threads, HELPED_MAX + 1)) {
      return;
    }
    this.#helping = true;
    setImmediate(() => {
      this.#helping = false;
      const waiting = this.#queue.shift();
      if (waiting === undefined) return;
      settle(waiting, answerTo(waiting.request));
      this.#send();
    });
  }

  get #isStarved(): boolean {
    return performance.now() - this.#starvedMs < SPARE_MS;
  }

  get #mayStart(): boolean {
    const { sinceMs = Number.NEGATIVE_INFINITY } = this.#notStarted ?? {};
    return performance.now() - sinceMs >= START_AGAIN_MS;
  }

  #start(workers: Busy[]): void {
    const kind = this.#kind;
    const start = workers === this.#spare ? kind.startSpare : kind.start;
    let busy: Busy | undefined;
    try {
      const worker = start?.call(kind, {
        answered: (answer) => busy && this.#answered(busy, answer),
        failed: (cause) => busy && this.#failed(workers, busy, cause),
        ended: (why, cause) => busy && this.#ended(workers, busy, why, cause),
      });
      if (worker === undefined) return;
      busy = { worker, worksSinceMs: undefined, sent: new Map() };
    } catch (cause) {
      this.#remember(cause);
      return;
    }
    busy.worker.unref(); // until it is sent a job
    workers.push(busy);
    if (kind.startSpare === undefined) return;
    this.#watch ??= setInterval(() => this.#look(), STARVED_MS / 2).unref();
  }

  #remember(cause: unknown): SheepError {
    const why = describeError(cause);
    const message = `${this.#kind.one} to hash and compress could not be started: ${why}`;
    const error = new SheepError('ERR_IO', message, {}, cause);
    this.#notStarted = { error, sinceMs: performance.now() };
    return error;
  }

  /** Nobody is there, and nobody will be for a while. */
  #giveUp(): void {
    const error = this.#notStarted?.error;
    assert(error !== undefined, 'one is started where there is none');
    for (const { reject } of this.#queue.splice(0)) reject(error);
  }

  /** Whether any of the usual ones gets no processor, or any at all does not answer any more. */
  #look(): void {
    const nowMs = performance.now();
    const waitsMs = ({ worksSinceMs, sent }: Busy) => {
      const [first] = sent.values();
      return first === undefined ? 0 : nowMs - Math.max(first.sinceMs, worksSinceMs ?? 0);
    };
    for (const busy of [...this.#usual, ...this.#spare]) {
      if (waitsMs(busy) > HUNG_MS) void busy.worker.end(); // and that is told as its end
    }
    if (!this.#usual.some((busy) => waitsMs(busy) > STARVED_MS)) return;
    this.#starvedMs = nowMs;
    this.#send();
  }

  #answered(busy: Busy, answer: WorkAnswer): void {
    const waiting = busy.sent.get(answer.number);
    busy.sent.delete(answer.number);
    const nowMs = performance.now();
    busy.worksSinceMs ??= nowMs;
    for (const later of busy.sent.values()) later.sinceMs = nowMs; // it is worked on from now on
    if (busy.sent.size === 0) busy.worker.unref();
    if (waiting !== undefined) settle(waiting, answer);
    this.#send();
  }

  /** Another one does what it was sent. */
  #failed(workers: Busy[], busy: Busy, cause: unknown): void {
    this.#remember(cause);
    remove(workers, busy);
    if (this.#disposed) return; // they were told
    this.#queue.unshift(...busy.sent.values());
    busy.sent.clear();
    this.#send();
  }

  #ended(workers: Busy[], busy: Busy, why: string, cause?: unknown): void {
    if (!remove(workers, busy)) return;
    const message = `${this.#kind.one} that hashes and compresses died: ${why}`;
    const error = new SheepError('ERR_IO', message, {}, cause);
    for (const { reject } of busy.sent.values()) reject(error);
    busy.sent.clear();
    if (busy.worksSinceMs === undefined) {
      this.#notStarted = { error, sinceMs: performance.now() };
    }
    if (!this.#disposed) this.#send();
  }
}

function remove(workers: Busy[], busy: Busy): boolean {
  const place = workers.indexOf(busy);
  if (place >= 0) workers.splice(place, 1);
  return place >= 0;
}

function settle({ resolve, reject }: Waiting, answer: WorkAnswer): void {
  if ('result' in answer) resolve(answer.result);
  else reject(new Error(answer.failure));
}

/** One at a time is started, and the next only if that did not help. */
function isWorthAnother({ sinceMs }: Waiting, workers: readonly Busy[], most: number): boolean {
  if (workers.length === 0) return true;
  if (workers.length >= most) return false;
  let fromMs = sinceMs;
  for (const { worksSinceMs } of workers) {
    if (worksSinceMs === undefined) return false;
    fromMs = Math.max(fromMs, worksSinceMs);
  }
  return performance.now() - fromMs >= WAITS_MAX_MS;
}
