import { describeError, SheepError } from '../../base/errors.ts';
import type { WantedShape } from '../../config/store-shape.ts';
import type { Call } from '../../contracts/call.ts';
import type {
  ClusterCheckLine,
  ClusterSnapshotInfoView,
  ClusterSnapshotListView,
  FreedView,
  LoadedView,
  SavedView,
} from '../admin-cluster-views.ts';
import { type ProgressLine, progressLines } from '../progress-lines.ts';
import type { LoadOptions } from './load-plan.ts';
import type { Place } from './open.ts';
import { type Amount, type Job, type OperationStats, Operations } from './operations.ts';
import type { SnapshotParts, WritingParts } from './parts.ts';

interface DryRun {
  readonly dryRun: boolean;
}
type Lines<Result> = AsyncGenerator<ProgressLine<Amount, Result>>;
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
  #started: Promise<void> = Promise.resolve();
  #namingError: unknown;

  constructor(place: Place) {
    this.#place = place;
    this.#operations = new Operations(place.clock, place.log);
  }

  /** In the background: what a save has frozen that a stop broke off is let go of. */
  start(): void {
    this.#started = this.#releaseLeft().catch((error) => {
      this.#place.log.event('warn', 'snapshots.not-released', { cause: describeError(error) });
    });
  }

  stats(): OperationStats {
    return this.#operations.stats();
  }

  /** Why what was loaded cannot get its names; undefined: it has them. */
  get namingError(): unknown {
    return this.#namingError;
  }

  /**
   * Saves all there is under a tag. The first line is told once its instant is over.
   * @throws SheepError as `saveSnapshot`; `ERR_BUSY`
   */
  save(tag: string, call: Call): Lines<SavedView> {
    return this.#changing({ operation: 'save', tag }, call, async (parts, its, progress) => {
      const [{ saveSnapshot }, { viewOf }] = await Promise.all([
        import('./save.ts'),
        import('./listing.ts'),
      ]);
      const saved = await saveSnapshot(parts, tag, its, (done) => {
        if (done.phase === 'storing') progress(done);
      });
      const { entry, snap, readBytes, newBytes, sharedBytes, storedBytes } = saved;
      const counts = { readBytes, newBytes, sharedBytes, storedBytes };
      const view = { ...viewOf(entry, snap), ...counts };
      this.#place.log.event('info', 'cluster.snapshot-saved', { ...view });
      return view;
    });
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
      const naming = {
        stopping: this.#operations.stopping,
        heldUp: (cause: unknown) => {
          this.#namingError = cause;
        },
      };
      const loaded = await loadSnapshot(parts, snap, options, { ...its, ...naming }, progress);
      return { tag, dryRun, ...loaded };
    };
    if (dryRun) return this.#looking(call, work);
    return this.#changing({ operation: 'load', tag }, call, work);
  }

  /** @throws SheepError as `deleteSnapshot`; `ERR_BUSY` */
  delete(tag: string, { dryRun }: DryRun, call: Call): Lines<FreedView> {
    const removal = () => import('./removal.ts');
    if (dryRun) {
      return this.#looking(call, async (parts, its) =>
        (await removal()).planDeletion(parts, tag, its),
      );
    }
    return this.#changing({ operation: 'delete', tag }, call, async (parts, its, progress) => {
      const { releaseHeld } = await import('./held.ts');
      const freed = await (await removal()).deleteSnapshot(parts, tag, its, progress);
      await releaseHeld(parts);
      this.#place.log.event('info', 'cluster.snapshot-deleted', { tag, ...freed });
      return freed;
    });
  }

  /** @throws SheepError as `collectSnapshots`; `ERR_BUSY` */
  collect({ dryRun }: DryRun, call: Call): Lines<FreedView> {
    const removal = () => import('./removal.ts');
    const nothing = { dryRun, freedBytes: 0, liveBytes: 0, keptBytes: 0 };
    if (dryRun) {
      return this.#looking(
        call,
        async (parts, its) => (await removal()).planCollecting(parts, its),
        nothing,
      );
    }
    return this.#changing(
      { operation: 'gc' },
      call,
      async (parts, its, progress) => {
        const freed = await (await removal()).collectSnapshots(parts, its, progress);
        this.#place.log.event('info', 'cluster.snapshots-collected', { ...freed });
        return freed;
      },
      nothing,
    );
  }

  /** @throws SheepError if the store cannot be opened */
  async list(): Promise<ClusterSnapshotListView> {
    const { running } = this.#operations.stats();
    const { openStore } = await import('./open.ts');
    await using opened = await openStore(this.#place);
    if (opened === undefined) return { snapshots: [], lost: [], running };
    const { listSnapshots } = await import('./listing.ts');
    const { store } = opened.parts;
    const { storeId, hash, codec } = store.identity;
    return { store: { storeId, hash, codec }, ...(await listSnapshots(store)), running };
  }

  /** @throws SheepError as `showSnapshot` */
  show(tag: string, call: Call): Lines<ClusterSnapshotInfoView> {
    return this.#looking(call, async ({ store }, its, progress) => {
      const { showSnapshot } = await import('./show.ts');
      return showSnapshot(store, tag, its, progress);
    });
  }

  /**
   * Proves all there is: snapshots of the cluster, and what is served. Other operations go on.
   * @throws SheepError if the store cannot be opened; `ERR_SHUTDOWN`
   */
  check(
    options: { readonly samplePercent: number },
    call: Call,
  ): AsyncGenerator<Exclude<ClusterCheckLine, { is: 'error' }>> {
    const place = this.#place;
    return this.#operations.run({ operation: 'check' }, call, async function* (its) {
      const [{ checkCluster }, { openStore }] = await Promise.all([
        import('./check.ts'),
        import('./open.ts'),
      ]);
      await using opened = await openStore(place);
      const { directory, checks, clock } = place;
      const parts = { directory, checks, clock, ...(opened && { store: opened.parts.store }) };
      const log = place.log;
      for await (const line of checkCluster(parts, options, its)) {
        if (line.is === 'end') {
          const level = line.result.flawCount === 0 ? 'info' : 'error';
          log.event(level, 'cluster.checked', { ...line.result });
        }
        yield line;
      }
    });
  }

  /**
   * Makes the store in which snapshots will be, or looks whether it is one of that shape.
   * @throws SheepError `ERR_EXISTS` if it is of another
   */
  async makeStore(wanted: WantedShape): Promise<void> {
    const { makeStore } = await import('./open.ts');
    return makeStore(this.#place, wanted);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#operations[Symbol.asyncDispose]();
    await this.#started;
  }

  async #releaseLeft(): Promise<void> {
    const { directory, volumes } = this.#place;
    // Without them nothing of the store need be loaded.
    if (!(await directory.all()).some(({ state }) => state === 'held')) return;
    const [{ openStore }, { releaseHeld }] = await Promise.all([
      import('./open.ts'),
      import('./held.ts'),
    ]);
    await using opened = await openStore(this.#place);
    if (opened !== undefined) await releaseHeld(opened.parts);
    else await volumes.releaseHeld(() => false); // the store was removed, and names nothing
  }

  /** With the store. @param withoutStore  as of `#changing` */
  async #reading<T>(work: (parts: SnapshotParts) => Promise<T>, withoutStore?: T): Promise<T> {
    const { openStore } = await import('./open.ts');
    await using opened = await openStore(this.#place);
    if (opened === undefined) return withoutStore ?? noSnapshots();
    return await work(opened.parts);
  }

  /**
   * An operation that changes what there is; no other one does meanwhile.
   * @param withoutStore  its result if there is no store; absent: it is refused
   */
  #changing<Result>(
    job: Job,
    call: Call,
    work: Work<Result>,
    withoutStore?: Result,
  ): Lines<Result> {
    return this.#operations.run(job, call, (its) =>
      progressLines(this.#place.clock, its, async (inner, progress) => {
        const { openStore, withWriter } = await import('./open.ts');
        await this.#started;
        const create = job.operation === 'save' ? {} : undefined;
        await using opened = await openStore(this.#place, create);
        if (opened === undefined) return withoutStore ?? noSnapshots();
        return await withWriter(opened, (parts) => work(parts, inner, progress));
      }),
    );
  }

  /** What only looks is no operation: it waits for none, and none waits for it. */
  #looking<Result>(
    call: Call,
    work: Work<Result, SnapshotParts>,
    withoutStore?: Result,
  ): Lines<Result> {
    return progressLines(this.#place.clock, call, (its, progress) =>
      this.#reading((parts) => work(parts, its, progress), withoutStore),
    );
  }
}

function noSnapshots(): never {
  const message = "no snapshot of the cluster was saved yet: 'collie cluster snapshot save TAG'";
  throw new SheepError('ERR_NOT_FOUND', message);
}
