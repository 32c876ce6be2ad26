import { describeError, SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { Clock } from '../contracts/seams.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import { removeFreed } from '../vdi/freed.ts';
import { type DeadMember, isBeingCopied } from '../vdi/readers.ts';
import { exportName, isLeaving, type VolumeRecord } from '../vdi/record.ts';
import { sweep } from '../vdi/sweep.ts';

/** What could not be removed, because the disk failed, is tried again after this time. */
const RETRY_MS = 60_000;
/** After each small step a removal rests so many times as long as it has worked, and no longer than
 * so many milliseconds: with one rest a writer beside it kept 0.57 of its speed. */
const RESTS_PER_WORK = 4;
const REST_MS_MAX = 400;
/** Ghosts are swept for so long before their family is read again. */
const READ_AGAIN_MS = 1000;

/** How far a deletion is: objects that were looked at, of so many. */
export interface DeletionProgress {
  readonly done: number;
  readonly total: number;
}

/**
 * Removes the objects of deleted VDIs and snapshots, also those that an earlier process has left. An
 * object that others of the family read stays, and so does what is left of its VDI: a *ghost*. There
 * may be thousands, so a deletion looks only at what it can have freed of them.
 *
 * They take their turns in a family, and until then each counts as if it lived: so what the turn of
 * one frees, it frees alone.
 */
export class Deletions implements AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Map<Vid, Promise<void>>();
  readonly #progress = new Map<Vid, DeletionProgress>();
  /**
   * Of what was deleted: ghosts that were swept and rest until something below them is freed, and what
   * is to be swept as a whole whatever may have freed it. Any other one waits for its turn.
   */
  readonly #swept = new Map<Vid, 'resting' | 'again'>();
  /**
   * VDIs that were written to while what they stem from was a ghost already. What they let go of then
   * nobody else had, and no inode tells: when such a one is deleted its ghosts are swept.
   */
  readonly #untold = new Set<Vid>();
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
    await this.takeOver();
    this.#rounds = this.#goRound();
  }

  /** Notes what an earlier process has left; before the first VDI is made, and once. */
  async takeOver(): Promise<void> {
    await this.#directory.abandonUnfinished();
    const records = await this.#directory.all();
    const left = new Set(records.filter(isLeaving).map(({ vid }) => vid));
    for (const vid of left) this.#swept.set(vid, 'again');
    this.#noteUntold(records, left);
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
        await this.#finishAll(await this.#unfinished());
      } catch (error) {
        this.#failed(error);
      }
      await this.#clock.sleep(RETRY_MS, { signal }).catch(() => undefined);
    }
  }

  /** One that cannot be finished does not keep the others. */
  async #finishAll(records: readonly VolumeRecord[]): Promise<void> {
    const ghosts = records.filter(({ vid }) => this.#swept.has(vid));
    const again = new Set(ghosts.map(({ vid }) => vid));
    for (const [family, members] of Map.groupBy(ghosts, (ghost) => ghost.family)) {
      const vids = members.map(({ vid }) => vid);
      for (const error of await this.#sweepAgain(vids, family)) this.#failed(error);
    }
    for (const record of records) {
      if (again.has(record.vid) || this.#swept.has(record.vid)) continue;
      await this.finish(record).catch((error) => this.#failed(error));
    }
  }

  async #unfinished(): Promise<VolumeRecord[]> {
    return (await this.#directory.deletions()).filter(
      ({ vid }) => this.#swept.get(vid) !== 'resting',
    );
  }

  #failed(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#log.event('error', 'vdi.deletion-failed', { cause: describeError(error) });
  }

  async #remove({ vid, family }: VolumeRecord): Promise<void> {
    try {
      const ghosts = await this.#families.pass(family, true, () => this.#takeTurn(vid, family));
      const [failure] = await this.#sweepAgain(ghosts, family);
      if (failure !== undefined) throw failure;
    } finally {
      this.#running.delete(vid);
    }
  }

  /** @returns ghosts that are to be swept after it */
  async #takeTurn(vid: Vid, family: Vid): Promise<readonly Vid[]> {
    const records = await this.#directory.family(family);
    const record = records.find((each) => each.vid === vid);
    if (record === undefined) return []; // another one has finished it
    if (this.#swept.has(vid)) return [vid];
    // Whatever comes of this: before a ghost is swept, it is known who writes over it.
    this.#noteUntold(records, new Set([vid]));
    const dead = this.#dead(record, records);
    if (isBeingCopied(record, records)) return []; // its turn comes with a later round
    const ghosts = ancestors(record, records).filter(
      (each) => this.#swept.get(each.vid) === 'resting',
    );
    const sweepLater = (vids: Iterable<Vid>) => {
      for (const each of vids) this.#swept.set(each, 'again');
    };
    const all = ghosts.map((ghost) => ghost.vid);
    try {
      const steps = { signal: this.#stop.signal, pause: this.#pacer() };
      const touched = this.#untold.has(vid) ? all : await removeFreed(dead, ghosts, steps);
      sweepLater(touched);
      await this.#sweep(dead);
      return [...touched];
    } catch (error) {
      // How far it came nobody knows: so what it may have freed is no more than what is not needed.
      sweepLater([vid, ...all]);
      throw error;
    }
  }

  /**
   * Sweeps ghosts, each by itself. There may be thousands, and to read the family takes as long as it
   * is large: so it is read once for as many as are swept in a second. What dies meanwhile still counts
   * as live.
   * @returns what failed: a later round tries it again
   */
  async #sweepAgain(ghosts: readonly Vid[], family: Vid): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (let next = 0; next < ghosts.length; ) {
      await this.#families.pass(family, true, async () => {
        const records = await this.#directory.family(family);
        const byVid = new Map(records.map((record) => [record.vid, record]));
        const others = records.filter(({ vid }) => !this.#swept.has(vid)); // nobody reads by these
        const until = this.#clock.monotonicMs() + READ_AGAIN_MS;
        do {
          this.#stop.signal.throwIfAborted();
          const record = byVid.get(ghosts[next] as Vid);
          next += 1;
          if (record === undefined) continue; // another one has finished it
          await this.#sweep(this.#dead(record, others)).catch((error) => failures.push(error));
        } while (next < ghosts.length && this.#clock.monotonicMs() < until);
      });
    }
    return failures;
  }

  #dead(record: VolumeRecord, family: readonly VolumeRecord[]): DeadMember {
    const waiting = family.filter((each) => isLeaving(each) && !this.#swept.has(each.vid));
    const vids = new Set(waiting.map(({ vid }) => vid));
    return { store: this.#store, record, family, waiting: vids };
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

  /** VDIs that stem from what was deleted. */
  #noteUntold(records: readonly VolumeRecord[], deleted: ReadonlySet<Vid>): void {
    for (const { vid, parent, state } of records) {
      if (state === 'ready' && deleted.has(parent)) this.#untold.add(vid);
    }
  }

  async #sweep(dead: DeadMember): Promise<void> {
    const { record, family } = dead;
    const { vid } = record;
    this.#noteUntold(family, new Set([vid]));
    const gone = await sweep(dead, {
      signal: this.#stop.signal,
      progress: (done, total) => void this.#progress.set(vid, { done, total }),
      pause: this.#pacer(),
    }).finally(() => this.#progress.delete(vid));
    if (gone) {
      await this.#directory.forget(vid);
      this.#swept.delete(vid);
      this.#untold.delete(vid);
    } else this.#swept.set(vid, 'resting');
    if (record.state === 'released') return; // its VDI goes on under its name
    const facts = { vdi: exportName(record), vid };
    if (gone) this.#log.event('info', 'vdi.deleted', facts);
    else this.#log.event('info', 'vdi.deletion-rests', facts);
  }
}

/** The nearest first. */
function ancestors(record: VolumeRecord, family: readonly VolumeRecord[]): VolumeRecord[] {
  const byVid = new Map(family.map((member) => [member.vid, member]));
  const found: VolumeRecord[] = [];
  for (let at = byVid.get(record.parent); at !== undefined; at = byVid.get(at.parent)) {
    found.push(at);
  }
  return found;
}
