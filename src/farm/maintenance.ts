import { Gate } from '../base/gate.ts';
import { KIND, objectKey } from '../base/ids.ts';
import { allSettled } from '../base/parallel.ts';
import type { Disk } from '../contracts/disk.ts';
import type { ActivityLog, Listed } from './activity-log.ts';
import type { Flusher } from './flusher.ts';
import type { Journal } from './journal.ts';
import { unlinkObject } from './live-objects.ts';
import { objectDirectory } from './object-format.ts';
import type { OpenSet } from './open-set.ts';

const RETIRE_AT_ONCE = 256;

export interface MaintenanceParts {
  readonly disk: Disk;
  readonly directory: string;
  readonly open: OpenSet;
  readonly activity: ActivityLog;
  readonly journal: Journal;
  readonly flusher: Flusher;
}

/**
 * What has to be done now and then, in rounds: files whose changes have rested are made stable,
 * objects that have been clean for a round leave the activity log, and journal segments that
 * nobody needs are given back.
 */
export class Maintenance {
  readonly #parts: MaintenanceParts;
  /** One thing at a time. */
  readonly #gate = new Gate();
  #round: Promise<void> | undefined;
  #shortening: Promise<void> | undefined;

  constructor(parts: MaintenanceParts) {
    this.#parts = parts;
  }

  /** A whole round; who asks while one is under way shares it. */
  run(): Promise<void> {
    this.#round ??= this.#gate
      .pass(true, () => this.#runOnce())
      .finally(() => {
        this.#round = undefined;
      });
    return this.#round;
  }

  /** Only the last part of a round, when the journal has become too long to wait for one. */
  shorten(): Promise<void> {
    this.#shortening ??= this.#gate
      .pass(true, () => this.#shortenJournal())
      .finally(() => {
        this.#shortening = undefined;
      });
    return this.#shortening;
  }

  async #runOnce(): Promise<void> {
    this.#parts.flusher.check();
    this.#parts.activity.beginRound();
    await this.#homeRested();
    await this.#retireClean();
    await this.#shortenJournal();
  }

  /** Every file stable, every word of the journal void: for a clean stop. */
  settleAll(): Promise<void> {
    const { flusher } = this.#parts;
    return this.#gate.pass(true, async () => {
      flusher.check();
      await flusher.home([...flusher.unhomed]);
      await this.#settleRemoved();
    });
  }

  /**
   * Inode nodes too, rested or not: an object may only leave the activity log when the entry that
   * names it is stable, or a power cut could make it nobody's.
   */
  async #homeRested(): Promise<void> {
    const { flusher, activity } = this.#parts;
    const { round } = activity;
    const due = [...flusher.unhomed].filter(
      ({ changedRound, name }) => changedRound < round - 1 || name.kind !== KIND.data,
    );
    if (due.length > 0) await flusher.home(due);
    await flusher.nodesHomed();
  }

  /** A node that keeps the only copy may retire by itself; with copies the gateway will say when. */
  async #retireClean(): Promise<void> {
    const { open, activity } = this.#parts;
    await this.#settleRemoved();
    const { round } = activity;
    await this.#retire((listed) => {
      if (listed.suspect || listed.redo !== undefined || listed.round >= round - 1) return false;
      if (activity.isAnnounced(listed.name)) return false;
      const object = open.find(keyOf(listed));
      if (object === undefined) return true;
      const resting = object.clean && object.dirty.count === 0 && object.gate === undefined;
      return resting && object.changedRound < round - 1;
    });
  }

  async #retire(which: (listed: Listed) => boolean): Promise<void> {
    const { open, activity } = this.#parts;
    const names = [...activity.values()].filter(which).map(({ name }) => name);
    for (const { kind, vid, index } of names) {
      const object = open.find(objectKey(kind, vid, index));
      if (object === undefined) continue;
      // Its next writer passes its gate, behind which it is counted anew.
      object.listedUnder = undefined;
      open.rest(object);
    }
    // In appends that fit a segment of any size.
    const appends = [];
    while (names.length > 0) appends.push(activity.retire(names.splice(0, RETIRE_AT_ONCE)));
    await allSettled(appends);
  }

  /** Objects that the oldest segments speak of are made stable, then the segments go. */
  async #shortenJournal(): Promise<void> {
    const { journal, activity, flusher, open } = this.#parts;
    flusher.check();
    const current = journal.reached.segment;
    const owed = () => [...activity.values()].filter(({ redo }) => redo && redo.segment < current);
    // Who is about to make or remove one of them is waited for: only then it can be settled.
    const pending = owed().filter(
      (listed) => !listed.gone && open.find(keyOf(listed)) === undefined,
    );
    for (const listed of pending) await open.pass(keyOf(listed), false, async () => undefined);
    const objects = owed().flatMap((listed) => open.find(keyOf(listed)) ?? []);
    if (objects.length > 0) await flusher.home(objects);
    await this.#settleRemoved();
    let oldest = current;
    for (const { redo } of activity.values())
      if (redo && redo.segment < oldest) oldest = redo.segment;
    while ((journal.segments[0] as number) < oldest) await journal.discardOldest();
  }

  /** Files that did not go when they were removed: as long as one is there, the journal is owed. */
  async #unlinkRemoved(): Promise<void> {
    const { activity, open } = this.#parts;
    const staying = [...activity.values()].filter(({ leaving }) => leaving);
    for (const listed of staying) {
      const unlink = async () => {
        // Whoever was at the gate may have removed it, or have made it anew.
        const same = activity.find(keyOf(listed)) === listed;
        if (same && listed.leaving) await unlinkObject(this.#parts, listed.name);
      };
      await open.pass(keyOf(listed), true, unlink).catch(() => undefined); // the next round tries
    }
  }

  /** Removed objects owe only their name: once its directory is stable, nothing. */
  async #settleRemoved(): Promise<void> {
    await this.#unlinkRemoved();
    const { activity, disk, directory, journal } = this.#parts;
    const upTo = journal.reached;
    const removed = [...activity.values()].filter(({ gone, redo }) => gone && redo !== undefined);
    if (removed.length === 0) return;
    const paths = new Set(removed.map(({ name }) => objectDirectory(directory, name)));
    for (const path of paths) await disk.syncDirectory(path);
    await activity.homed(removed.map(({ name }) => ({ name, upTo })));
  }
}

function keyOf({ name }: Listed): number | string {
  return objectKey(name.kind, name.vid, name.index);
}
