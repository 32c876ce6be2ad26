import { describeError, SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { Clock } from '../contracts/seams.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import { exportName, isLeaving, type VolumeRecord } from '../vdi/record.ts';
import { sweep } from '../vdi/sweep.ts';

/** What could not be removed, because the disk failed, is tried again after this time. */
const RETRY_MS = 60_000;
/** After each small step a removal rests so many times as long as it has worked, and no longer than
 * so many milliseconds: with one rest a writer beside it kept 0.57 of its speed. */
const RESTS_PER_WORK = 4;
const REST_MS_MAX = 400;

/** How far a deletion is: objects that were looked at, of so many. */
export interface DeletionProgress {
  readonly done: number;
  readonly total: number;
}

/**
 * Removes the objects of deleted VDIs and snapshots, also those that an earlier process has left. An
 * object that others of the family read stays, and so does what is left of its VDI: a *ghost*, which
 * is looked at again whenever one of its descendants is deleted.
 */
export class Deletions implements AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Map<Vid, Promise<void>>();
  readonly #progress = new Map<Vid, DeletionProgress>();
  /** Ghosts of which nothing can be removed before a descendant is deleted. */
  readonly #resting = new Set<Vid>();
  /** One deletion of a family at a time. */
  readonly #families = new KeyedGates<Vid>();
  readonly #stop = new AbortController();
  #rounds: Promise<void> | undefined;

  constructor(directory: VdiDirectory, store: ObjectStore, clock: Clock, log: Log) {
    this.#directory = directory;
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** Finishes what was left, in the background; before the first VDI is made. */
  async start(): Promise<void> {
    await this.#directory.abandonUnfinished();
    this.#rounds = this.#goRound();
  }

  /** Settles once no object is left that only the deleted one needs; shared by all who ask. */
  finish(record: VolumeRecord): Promise<void> {
    const running = this.#running.get(record.vid) ?? this.#remove(record);
    this.#running.set(record.vid, running);
    return running;
  }

  /** The same, with nobody who waits. */
  begin(record: VolumeRecord): void {
    this.finish(record).catch((error) => this.#failed(error));
  }

  /**
   * What people deleted and whose objects are being removed or will be, oldest first: without ghosts,
   * and without what was released, of which nobody ever heard.
   */
  async pending(): Promise<VolumeRecord[]> {
    return (await this.#unfinished()).filter(({ state }) => state === 'deleting');
  }

  /** Of one that is being removed now. */
  progress(vid: Vid): DeletionProgress | undefined {
    return this.#progress.get(vid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(
      new SheepError(
        'ERR_SHUTDOWN',
        'sheep is stopping; the deletion is finished at its next start',
      ),
    );
    await this.#rounds;
    await Promise.allSettled(this.#running.values());
  }

  async #goRound(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        // One that cannot be finished does not keep the others.
        for (const record of await this.#unfinished()) {
          await this.finish(record).catch((error) => this.#failed(error));
        }
      } catch (error) {
        this.#failed(error);
      }
      await this.#clock.sleep(RETRY_MS, { signal }).catch(() => undefined);
    }
  }

  async #unfinished(): Promise<VolumeRecord[]> {
    return (await this.#directory.deletions()).filter(({ vid }) => !this.#resting.has(vid));
  }

  #failed(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#log.event('error', 'vdi.deletion-failed', { cause: describeError(error) });
  }

  async #remove(record: VolumeRecord): Promise<void> {
    try {
      // What it alone still needed of its ancestors' can go after it.
      const ancestors = await this.#directory.ancestors(record);
      const ghosts = ancestors.filter(isLeaving);
      for (const ghost of [record, ...ghosts]) await this.#sweep(ghost);
    } finally {
      this.#running.delete(record.vid);
    }
  }

  /** So that clients keep most of the disk and of the processors. */
  #pacer(): () => Promise<void> {
    const { signal } = this.#stop;
    let since = this.#clock.monotonicMs();
    return async () => {
      const workedMs = this.#clock.monotonicMs() - since;
      await this.#clock.yield();
      if (workedMs >= 1)
        await this.#clock.sleep(Math.min(workedMs * RESTS_PER_WORK, REST_MS_MAX), { signal });
      since = this.#clock.monotonicMs();
    };
  }

  #sweep({ vid, family }: VolumeRecord): Promise<void> {
    return this.#families.pass(family, true, async () => {
      const records = await this.#directory.family(family);
      const record = records.find((each) => each.vid === vid);
      if (record === undefined) return; // another one has finished it
      this.#resting.delete(vid);
      const gone = await sweep(
        { store: this.#store, record, family: records },
        {
          signal: this.#stop.signal,
          progress: (done, total) => void this.#progress.set(vid, { done, total }),
          pause: this.#pacer(),
        },
      ).finally(() => this.#progress.delete(vid));
      if (gone) await this.#directory.forget(vid);
      else this.#resting.add(vid);
      if (record.state === 'released') return; // its VDI goes on under its name
      const facts = { vdi: exportName(record), vid };
      if (gone) this.#log.event('info', 'vdi.deleted', facts);
      else this.#log.event('info', 'vdi.deletion-rests', facts);
    });
  }
}
