import { describeError, FAULTS, SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { anySignal } from '../../base/signals.ts';
import type { Call } from '../../contracts/call.ts';
import type { Clock } from '../../contracts/seams.ts';

/** What is done with snapshots of the cluster and takes long. */
const OPERATIONS = ['save', 'load', 'delete', 'gc', 'check'] as const;
export type OperationName = (typeof OPERATIONS)[number];

/** One that runs. */
export interface Job {
  readonly operation: OperationName;
  /** Of the snapshot that it is about. */
  readonly tag?: string;
}

/** How far one is, in bytes; undefined while nobody knows of how many. */
export interface Amount {
  readonly doneBytes: number;
  readonly totalBytes?: number | undefined;
}

/** `sinceMs` is wall time. */
export type RunningJob = Job & Amount & { readonly sinceMs: number };

type JobResult = 'done' | 'failed' | 'aborted';

/** What one kind came to since the start. */
interface OperationCounts {
  readonly operation: OperationName;
  readonly results: Readonly<Record<JobResult, number>>;
  readonly tookMs: number;
  /** Read, proven or written, as its progress counts. */
  readonly bytes: number;
}

export interface OperationStats {
  /** What runs now, the oldest first. */
  readonly running: readonly RunningJob[];
  /** Each kind, since the start. */
  readonly counts: readonly OperationCounts[];
}

const NONE = { results: { done: 0, failed: 0, aborted: 0 }, tookMs: 0, bytes: 0 };

/** The words of a refusal. */
const UNDER_WAY: Readonly<Record<OperationName, (tag: string) => string>> = {
  save: (tag) => `the cluster snapshot '${tag}' is being saved`,
  load: (tag) => `the cluster snapshot '${tag}' is being loaded`,
  delete: (tag) => `the cluster snapshot '${tag}' is being deleted`,
  gc: () => 'what no cluster snapshot needs is being collected',
  check: () => 'the cluster is being checked',
};

interface Running {
  readonly job: Job;
  readonly beganMs: number;
  readonly sinceMs: number;
  readonly over: PromiseWithResolvers<void>;
  amount: Amount;
}

const LEFT = 'whoever asked for it is gone';

/** A line of an operation, as far as it is looked at here. */
type JobLine = { readonly is: string } & Partial<Amount>;

/**
 * Operations on the cluster's snapshots: of those that change anything one at a time. Counts them,
 * and tells the log how they begin and how they fail. Disposing aborts them and waits for them.
 */
export class Operations implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Set<Running>();
  readonly #counts: Map<OperationName, OperationCounts>;
  readonly #stop = new AbortController();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
    this.#counts = new Map(OPERATIONS.map((operation) => [operation, { operation, ...NONE }]));
  }

  /**
   * One operation, line by line. Leaving early ends it.
   * @throws SheepError `ERR_BUSY` with what runs; `ERR_SHUTDOWN` if it is stopped; what `lines` throws
   */
  async *run<Line extends JobLine>(
    job: Job,
    { signal }: Call,
    lines: (call: Required<Call>) => AsyncGenerator<Line>,
  ): AsyncGenerator<Line> {
    const running = this.#begin(job);
    const ending = anySignal(signal, this.#stop.signal);
    let result: JobResult | undefined;
    try {
      for await (const line of lines({ signal: ending })) {
        const { is, doneBytes, totalBytes } = line;
        if (doneBytes !== undefined) running.amount = { doneBytes, totalBytes };
        if (is === 'end') result = 'done'; // whoever reads it asks no further
        yield line;
      }
    } catch (error) {
      result = ending.aborted ? 'aborted' : 'failed';
      this.#tellFailure(job, error, result);
      throw error;
    } finally {
      if (result === undefined) this.#tellFailure(job, LEFT, 'aborted');
      this.#end(running, result ?? 'aborted');
    }
  }

  /** Aborted when sheep stops. */
  get stopping(): AbortSignal {
    return this.#stop.signal;
  }

  stats(): OperationStats {
    const running = [...this.#running].map(({ job, amount, sinceMs }) => {
      return { ...job, ...amount, sinceMs };
    });
    return { running, counts: [...this.#counts.values()] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new SheepError('ERR_SHUTDOWN', 'sheep is stopping; begin it again later'));
    await Promise.all([...this.#running].map(({ over }) => over.promise));
  }

  #begin(job: Job): Running {
    this.#stop.signal.throwIfAborted();
    const other = [...this.#running].find(({ job: { operation } }) => operation !== 'check');
    if (other !== undefined && job.operation !== 'check') {
      const { operation, tag = '' } = other.job;
      const message = `${UNDER_WAY[operation](tag)}; try it again when that is done`;
      throw new SheepError('ERR_BUSY', message, { operation, tag });
    }
    const running = {
      ...{ job, amount: { doneBytes: 0 }, over: Promise.withResolvers<void>() },
      ...{ beganMs: this.#clock.monotonicMs(), sinceMs: this.#clock.wallMs() },
    };
    this.#running.add(running);
    this.#log.event('info', 'cluster.snapshot-begun', { ...job });
    return running;
  }

  #tellFailure(job: Job, error: unknown, result: JobResult): void {
    const facts = { ...job, cause: describeError(error) };
    const level = isOurs(error) ? 'error' : 'warn';
    if (result === 'aborted') this.#log.event('warn', 'cluster.snapshot-aborted', facts);
    else this.#log.event(level, 'cluster.snapshot-failed', facts);
  }

  #end(running: Running, result: JobResult): void {
    const { operation } = running.job;
    const before = this.#counts.get(operation) ?? NONE;
    this.#counts.set(operation, {
      operation,
      results: { ...before.results, [result]: before.results[result] + 1 },
      tookMs: before.tookMs + this.#clock.monotonicMs() - running.beganMs,
      bytes: before.bytes + running.amount.doneBytes,
    });
    this.#running.delete(running);
    running.over.resolve();
  }
}

/** Whether somebody must look at it; else it is what a person asked for that could not be. */
function isOurs(error: unknown): boolean {
  return !(error instanceof SheepError) || FAULTS[error.code].http >= 500;
}
