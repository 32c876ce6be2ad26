import { SheepError } from '../base/errors.ts';
import { KIND, type Vid } from '../base/ids.ts';
import { allSettled, forEachAtMost } from '../base/parallel.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk } from '../contracts/disk.ts';
import type { ActivityLog } from './activity-log.ts';
import { copyDirty } from './copy-dirty.ts';
import type { Journal } from './journal.ts';
import type { JournalEntry } from './journal-format.ts';
import type { FarmLimits } from './limits.ts';
import { objectDirectory } from './object-format.ts';
import type { OpenObject } from './open-object.ts';
import type { OpenSet } from './open-set.ts';
import { Works } from './works.ts';

export interface FlusherParts {
  readonly disk: Disk;
  readonly directory: string;
  readonly limits: FarmLimits;
  readonly activity: ActivityLog;
  readonly journal: Journal;
  readonly open: OpenSet;
}

/**
 * Makes changes stable, by one of two ways (ARCHITECTURE.md, "Three ways of flushing"):
 * - small flushes go to the journal, one append and one sync whatever the number of objects;
 * - large ones, and everything in the background, sync the objects' own files: "homing" them.
 */
export class Flusher {
  readonly #parts: FlusherParts;
  /** Objects with blocks that are stable nowhere, by VDI. */
  readonly #dirty = new Map<Vid, Set<OpenObject>>();
  /** Objects whose file is not stable, oldest change first. */
  readonly #unhomed = new Set<OpenObject>();
  readonly #works: Works;
  readonly #roomWaiters: (() => void)[] = [];
  #unsyncedBlocks = 0;
  #begunBytes = 0;
  #background: Promise<void> | undefined;
  #broken: SheepError | undefined;

  constructor(parts: FlusherParts) {
    this.#parts = parts;
    this.#works = new Works(
      (error) => this.fail(error),
      (object) => parts.open.relax(object),
    );
  }

  get unsyncedBytes(): number {
    return this.#unsyncedBlocks * BLOCK_BYTES;
  }
  /** Changes that wait for room. */
  get waiting(): number {
    return this.#roomWaiters.length;
  }
  /** Objects whose file is not stable, oldest change first. */
  get unhomed(): ReadonlySet<OpenObject> {
    return this.#unhomed;
  }

  /** True while changes may go on without waiting for the disk. */
  get hasRoom(): boolean {
    const { unsyncedMaxBytes, unsyncedObjects } = this.#parts.limits;
    return (
      this.unsyncedBytes < unsyncedMaxBytes &&
      this.#unhomed.size < unsyncedObjects &&
      this.#broken === undefined
    );
  }

  /** Settles when there is room again. @throws SheepError `ERR_LOST` after a failed sync */
  async room(): Promise<void> {
    while (!this.hasRoom) {
      this.check();
      this.#startBackground();
      await new Promise<void>((wake) => this.#roomWaiters.push(wake));
    }
  }

  /** A flush of these blocks will follow: it has less to wait for if they go ahead. */
  begin(object: OpenObject, at: number, length: number): void {
    if (this.#begunBytes + length > this.#parts.limits.begunMaxBytes) return;
    object.beginSync(at, length);
    this.#begunBytes += length;
  }

  /** To be called after each change, with the number of blocks that became unhomed by it. */
  changed(object: OpenObject, newlyUnhomed: number): void {
    this.#unsyncedBlocks += newlyUnhomed;
    const { vid } = object.name;
    const dirty = this.#dirty.get(vid);
    if (dirty === undefined) this.#dirty.set(vid, new Set([object]));
    else dirty.add(object);
    this.#unhomed.add(object);
    if (this.#unsyncedPart > 1) this.#startBackground();
  }

  /** How much there is of what the background leaves alone: above 1 it begins to sync. */
  get #unsyncedPart(): number {
    const { unsyncedBackgroundBytes, unsyncedObjects } = this.#parts.limits;
    return Math.max(
      this.unsyncedBytes / unsyncedBackgroundBytes,
      this.#unhomed.size / (unsyncedObjects / 2),
    );
  }

  /** Something of its file other than blocks is not stable. */
  changedMeta(object: OpenObject): void {
    this.#unhomed.add(object);
    if (this.#unsyncedPart > 1) this.#startBackground();
  }

  /** The object is about to be removed or replaced: to be called before the journal says so. */
  end(object: OpenObject): void {
    object.endsAt ??= this.#parts.journal.reached;
  }

  /** The object was removed: nothing of it is owed any more. */
  forget(object: OpenObject): void {
    this.#unsyncedBlocks -= object.unhomed.count;
    object.unhomed.clear();
    this.#undirty(object);
    this.#ended(object);
    this.#unhomed.delete(object);
    this.#wakeRoom();
  }

  /** Why nothing can be made stable any more, if a sync failed. */
  get failure(): SheepError | undefined {
    return this.#broken;
  }

  /** @throws SheepError `ERR_LOST` after a failed sync: then nothing may be taken for stable */
  check(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Settles once every change made before this call survives: of a VDI, or of some of its objects. */
  flush(vid: Vid, only?: readonly OpenObject[]): Promise<void> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const dirty = this.#dirty.get(vid);
    const objects = [...(only ?? dirty ?? [])].filter((object) => object.dirty.count > 0);
    const earlier = this.#works.touching(vid, only);
    if (objects.length > 0) earlier.push(this.#flushObjects(objects));
    return Promise.all(earlier).then(() => undefined);
  }

  /** Settles once the files of these objects are stable, whatever the journal holds. */
  home(objects: readonly OpenObject[]): Promise<void> {
    return this.#works.begin(objects, true, () => this.#home(objects));
  }

  /** Settles once the inode nodes are stable whose files are being synced. */
  nodesHomed(): Promise<void> {
    return this.#works.homing(({ name }) => name.kind !== KIND.data);
  }

  /** Settles once nothing is under way any more. */
  async idle(): Promise<void> {
    await this.#background;
    await this.#works.idle();
  }

  /**
   * After a failed sync the kernel may have dropped the bytes, and a second sync would report
   * success for nothing: from here on every flush fails, and the daemon has to be started anew.
   */
  fail(error: unknown): SheepError {
    this.#broken ??= new SheepError(
      'ERR_LOST',
      'a sync failed: what was not yet stable may be lost; see the log and start the daemon anew',
      {},
      error,
    );
    this.#wakeRoom();
    return this.#broken;
  }

  #flushObjects(objects: readonly OpenObject[]): Promise<void> {
    const blocks = objects.reduce((sum, object) => sum + object.dirty.count, 0);
    const { limits, journal } = this.#parts;
    const crowded = journal.segments.length > limits.segmentsMax;
    const large = blocks * BLOCK_BYTES > this.#journalMax(objects.length);
    // Few files whose bytes are on their way already: the journal would only send them once more.
    const begun =
      objects.length <= limits.syncsAtOnce && objects.some((each) => each.begunBytes > 0);
    if (crowded || large || begun) return this.home(objects);
    return this.#works.begin(objects, false, () => this.#flushToJournal(objects));
  }

  /** How much of so many objects goes to the journal: to sync many files for little costs more. */
  #journalMax(objects: number): number {
    const { limits, journal } = this.#parts;
    const share = objects * limits.journalFlushObjectBytes;
    const most = Math.min(limits.journalFlushMaxBytes, journal.segmentBytes / 4);
    return Math.max(limits.journalFlushBytes, Math.min(share, most));
  }

  /**
   * Objects that nobody works at go together, in one append. One that somebody is inside of (it may
   * be between a hole in the file and its entry in the table) goes when its gate lets us in.
   */
  async #flushToJournal(objects: readonly OpenObject[]): Promise<void> {
    const free = objects.filter(({ gate }) => gate === undefined);
    const taken = objects.filter(({ gate }) => gate !== undefined);
    await allSettled([this.#log(free), ...taken.map((object) => this.#logInside(object))]);
  }

  /**
   * Copied and appended inside, stable outside: nobody waits at the gate for the journal. A sync of
   * its file passes no gate: while we waited it may have taken what we came for, and may have failed.
   */
  async #logInside(object: OpenObject): Promise<void> {
    const { stable } = await this.#parts.open.pass(object.key, false, async () => {
      this.check();
      const homing = this.#works.homing((each) => each === object);
      // Who was at the gate before us may have written much.
      const large = object.dirty.count * BLOCK_BYTES > this.#journalMax(1);
      return { stable: allSettled([large ? this.home([object]) : this.#log([object]), homing]) };
    });
    await stable;
  }

  /**
   * Copies dirty blocks and appends them in one turn: were anything awaited in between, a newer
   * state could become home first, and the append would bring the older one back.
   */
  #log(objects: readonly OpenObject[]): Promise<void> {
    const blocks = objects.reduce((sum, { dirty }) => sum + dirty.count, 0);
    const room = new Uint8Array(blocks * BLOCK_BYTES);
    const entries: JournalEntry[] = [];
    const evicted: OpenObject[] = [];
    let used = 0;
    for (const object of objects) {
      const copied = copyDirty(object, room.subarray(used), entries);
      if (copied < 0) {
        evicted.push(object);
        continue;
      }
      used += copied;
      this.#undirty(object);
    }
    const waits: Promise<void>[] = [];
    if (entries.length > 0) waits.push(this.#parts.activity.log(entries, [room.subarray(0, used)]));
    if (evicted.length > 0) waits.push(this.home(evicted));
    return allSettled(waits);
  }

  #undirty(object: OpenObject): void {
    object.dirty.clear();
    const { vid } = object.name;
    const others = this.#dirty.get(vid);
    others?.delete(object);
    if (others?.size === 0) this.#dirty.delete(vid);
  }

  /** Data before inode nodes, so that no entry is stable before what it names. */
  async #home(objects: readonly OpenObject[]): Promise<void> {
    await this.#homeSome(objects.filter(({ name }) => name.kind === KIND.data));
    await this.#homeSome(objects.filter(({ name }) => name.kind !== KIND.data));
  }

  async #homeSome(objects: readonly OpenObject[]): Promise<void> {
    if (objects.length === 0) return;
    await forEachAtMost(this.#parts.limits.syncsAtOnce, objects, (object) => this.#homeOne(object));
    await this.#syncNames(objects);
    await this.#parts.activity.homed(
      objects.map(({ name, homedUpTo }) => ({ name, upTo: homedUpTo })),
    );
  }

  async #homeOne(object: OpenObject): Promise<void> {
    while (object.homing !== undefined) await object.homing;
    this.check(); // also of a sync that failed beside us: ours would pass for what that one lost
    if (object.closed) return; // removed in the meantime
    object.homing = this.#syncFile(object).finally(() => {
      object.homing = undefined;
    });
    await object.homing;
  }

  async #syncFile(object: OpenObject): Promise<void> {
    const taken = object.unhomed.count;
    object.unhomed.clear();
    this.#ended(object);
    const upTo = object.endsAt ?? this.#parts.journal.reached;
    this.#undirty(object);
    this.#unhomed.delete(object);
    try {
      object.writeMeta();
      await object.file.sync();
    } catch (error) {
      object.metaDirty = true; // what is in memory may be all there is: it stays open
      throw this.fail(error);
    }
    object.homedUpTo = upTo;
    this.#unsyncedBlocks -= taken;
    this.#wakeRoom();
  }

  /** What was begun of it is now waited for, or nobody's business any more. */
  #ended(object: OpenObject): void {
    this.#begunBytes -= object.begunBytes;
    object.begunBytes = 0;
  }

  async #syncNames(objects: readonly OpenObject[]): Promise<void> {
    const fresh = objects.filter((object) => !object.nameStable);
    const paths = new Set(fresh.map(({ name }) => objectDirectory(this.#parts.directory, name)));
    await Promise.all([...paths].map((path) => this.#parts.disk.syncDirectory(path)));
    this.check(); // another sync of a folder may have failed, and ours pass for what that one lost
    for (const object of fresh) object.nameStable = true;
  }

  #startBackground(): void {
    this.#background ??= this.#syncOldest().finally(() => {
      this.#background = undefined;
    });
  }

  async #syncOldest(): Promise<void> {
    const { syncsAtOnce } = this.#parts.limits;
    while (this.#unsyncedPart > 0.5 && this.#broken === undefined) {
      const oldest = [...this.#unhomed.values().take(syncsAtOnce * 4)];
      if (oldest.length === 0) return;
      // A failure is kept in #broken and told to whoever flushes or waits for room.
      await this.home(oldest).then(undefined, () => undefined);
    }
  }

  #wakeRoom(): void {
    if (this.#roomWaiters.length > 0) for (const wake of this.#roomWaiters.splice(0)) wake();
  }
}
