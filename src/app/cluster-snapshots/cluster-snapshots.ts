import { SheepError } from '../../base/errors.ts';
import type { WantedShape } from '../../config/store-shape.ts';
import type { Call } from '../../contracts/call.ts';
import type { LoadedView, OperationLine } from '../admin-cluster-views.ts';
import { progressLines } from '../progress-lines.ts';
import type { LoadOptions } from './load-plan.ts';
import type { Place } from './open.ts';
import {
  type Amount,
  type Job,
  type OperationCounts,
  Operations,
  type RunningJob,
} from './operations.ts';
import type { SnapshotParts, WritingParts } from './parts.ts';

interface DryRun {
  readonly dryRun: boolean;
}
type Lines<Result> = AsyncGenerator<OperationLine<Result>>;
type Work<Result, Parts = WritingParts> = (
  parts: Parts,
  call: Required<Call>,
  progress: (done: Amount) => void,
) => Promise<Result>;

/**
 * Snapshots of the whole cluster, and what is done with them while its VDIs are served. What it takes
 * to do anything is loaded when it is asked for first; store and threads are gone after each.
 * Disposing ends all that runs.
 */
export class ClusterSnapshots implements AsyncDisposable {
  readonly #place: Place;
  readonly #operations: Operations;

  constructor(place: Place) {
    this.#place = place;
    this.#operations = new Operations(place.clock, place.log);
  }

  /** What runs now, and what there was since the start. */
  stats(): {
    readonly running: readonly RunningJob[];
    readonly counts: readonly OperationCounts[];
  } {
    return { running: this.#operations.running(), counts: this.#operations.counts() };
  }

  /** @throws SheepError as `loadSnapshot` and `planLoad`, `ERR_BUSY` */
  load(tag: string, { dryRun, ...options }: LoadOptions & DryRun, call: Call): Lines<LoadedView> {
    const work: Work<LoadedView, SnapshotParts> = async (parts, its, progress) => {
      const [{ loadSnapshot, planLoad }, { findSnapshot }] = await Promise.all([
        import('./load.ts'),
        import('./find.ts'),
      ]);
      const snap = await findSnapshot(parts.store, tag);
      if (dryRun) return { tag, dryRun, ...(await planLoad(parts, snap, options, its)) };
      const loaded = await loadSnapshot(parts, snap, options, its, progress);
      return { tag, dryRun, ...loaded };
    };
    if (dryRun) return this.#looking(call, work);
    return this.#changing({ operation: 'load', tag }, call, work);
  }

  /**
   * Makes the store in which snapshots will be, or looks whether it is one of that shape.
   * @throws SheepError `ERR_EXISTS` if it is of another
   */
  async makeStore(wanted: WantedShape): Promise<void> {
    const { makeStore } = await import('./open.ts');
    return makeStore(this.#place, wanted);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#operations[Symbol.asyncDispose]();
  }

  /** With a store that is there. @throws SheepError `ERR_NOT_FOUND` if none is */
  async #reading<T>(work: (parts: SnapshotParts) => Promise<T>): Promise<T> {
    const { hasStore, withStore } = await import('./open.ts');
    if (await hasStore(this.#place)) return withStore(this.#place, undefined, work);
    throw noSnapshots();
  }

  /** An operation that changes what there is; no other one does meanwhile. */
  #changing<Result>(job: Job, call: Call, work: Work<Result>): Lines<Result> {
    return this.#operations.run(job, call, (its) =>
      progressLines(this.#place.clock, its, async (inner, progress) => {
        const { hasStore, withWriter } = await import('./open.ts');
        const create = job.operation === 'save';
        if (!create && !(await hasStore(this.#place))) throw noSnapshots();
        return withWriter(this.#place, create, (parts) => work(parts, inner, progress));
      }),
    );
  }

  /** What only looks is no operation: it waits for none, and none waits for it. */
  #looking<Result>(call: Call, work: Work<Result, SnapshotParts>): Lines<Result> {
    return progressLines(this.#place.clock, call, (its, progress) =>
      this.#reading((parts) => work(parts, its, progress)),
    );
  }
}

function noSnapshots(): SheepError {
  const message = "no snapshot of the cluster was saved yet: 'collie cluster snapshot save TAG'";
  return new SheepError('ERR_NOT_FOUND', message);
}
