import { type ObjectName, objectKey, type Stamp } from '../base/ids.ts';
import { blockSum, isZero } from './checksums.ts';
import type { Journal, JournalPoint } from './journal.ts';
import { ENTRY, type EntryType, type JournalEntry, type SequencedEntry } from './journal-format.ts';
import { type Origins, pagesIn } from './origins.ts';
import type { Suspect } from './rebuild.ts';

/** An object that may change in place at any time, and what the journal still says of it. */
export interface Listed extends Suspect {
  /** The boot in which it was listed, see bootMark. */
  readonly boot: bigint;
  /** True from an unclean stop until its table was made anew from its data. */
  suspect: boolean;
  /** Where the journal holds something of it that its file may not: oldest segment, last sequence. */
  redo: { segment: number; sequence: number } | undefined;
  /** That it is removed is stable, and its file has not gone yet. */
  leaving: boolean;
  /** Its file was removed: only the name may still have to become stable. */
  gone: boolean;
  /** The round of maintenance in which it was listed, or got an owner. */
  round: number;
}

const NO_NAME: ObjectName = { kind: 0, vid: 0, index: 0, slot: 0 };
const NOTHING = new Uint8Array(0);
const NO_STAMP: Stamp = { epoch: 0, attachEpoch: 0 };

/**
 * Which objects may differ from what was last stable: an
 * entry is stable before the first byte, stays while the object is in use, and leaves when it has
 * been clean for a while. The journal keeps it; this is its state in memory.
 */
export class ActivityLog {
  readonly #boot: bigint;
  readonly #listed = new Map<number | string, Listed>();
  #journal: Journal | undefined;
  readonly #announced = new Set<number | string>();
  #round = 0;

  constructor(boot: bigint, entries: Iterable<Listed>) {
    this.#boot = boot;
    for (const entry of entries) this.#listed.set(keyOf(entry.name), entry);
  }

  /** The journal asks for the snapshot while it starts, so it comes second. */
  use(journal: Journal): void {
    this.#journal = journal;
  }

  /** Rounds of maintenance so far: how long something has rested is counted in them. */
  get round(): number {
    return this.#round;
  }
  beginRound(): void {
    this.#round += 1;
  }

  get size(): number {
    return this.#listed.size;
  }
  find(key: number | string): Listed | undefined {
    return this.#listed.get(key);
  }
  values(): IterableIterator<Listed> {
    return this.#listed.values();
  }

  /** Settles when the object is listed under this stamp and this boot, stable. */
  list(name: ObjectName, stamp: Stamp, objectBytes: number, life: bigint): Promise<void> {
    const before = this.#listed.get(keyOf(name));
    return this.#add(ENTRY.list, { name, stamp, objectBytes, life }, before);
  }

  /**
   * The same for an object about to be made; whatever its name held before is void.
   * @param held  it stays listed, however clean it is, until it is withdrawn
   * @param origins  what it inherits: part of what is made again after a power cut
   */
  create(made: Suspect, held: boolean, origins?: Origins): Promise<void> {
    if (held) this.announce(made.name);
    else this.withdraw(made.name);
    const { redo } = this.#listed.get(keyOf(made.name)) ?? {};
    return this.#add(ENTRY.create, made, { redo }, origins);
  }

  #add(
    type: EntryType,
    made: Suspect,
    { suspect = false, leaving = false, redo }: Partial<Listed> = {},
    origins?: Origins,
  ): Promise<void> {
    const { name, stamp, objectBytes, life } = made;
    this.#listed.set(keyOf(name), {
      ...{ name, stamp, objectBytes, life },
      ...{ boot: this.#boot, suspect, redo, round: this.#round },
      ...{ leaving, gone: false },
    });
    const known = { name, stamp, objectBytes };
    const detail = type === ENTRY.create ? life : this.#boot;
    const pages = [...pagesIn(origins?.bytes ?? NOTHING).entries()].filter(
      ([, page]) => !isZero(page),
    );
    const inherit = pages.map(([page, bytes]) => ({
      ...{ ...known, type: ENTRY.inherit, detail: BigInt(page), sum: blockSum(bytes) },
    }));
    return this.#append(
      [{ ...known, type, detail, sum: 0 }, ...inherit],
      pages.map(([, bytes]) => bytes),
    );
  }

  /** Settles when its removal is stable; only then may the file go. */
  async remove(name: ObjectName, stamp: Stamp): Promise<void> {
    const key = keyOf(name);
    const before = this.#listed.get(key);
    const { objectBytes = 0, life = 0n, redo } = before ?? {};
    const listed: Listed = {
      ...{ name, stamp, objectBytes, life, redo },
      ...{ boot: this.#boot, suspect: false, round: this.#round },
      ...{ leaving: false, gone: false },
    };
    this.#listed.set(key, listed);
    await this.#append([{ type: ENTRY.remove, name, stamp, objectBytes, detail: 0n, sum: 0 }]);
    listed.leaving = true;
  }

  /** Somebody is about to remove it: it stays listed, however clean it is, until he says so. */
  announce(name: ObjectName): void {
    this.#announced.add(keyOf(name));
  }
  withdraw(name: ObjectName): void {
    this.#announced.delete(keyOf(name));
  }
  isAnnounced(name: ObjectName): boolean {
    return this.#announced.has(keyOf(name));
  }

  /** The entry that names it was written in this round: it is stable when this one has passed. */
  owned(name: ObjectName): void {
    this.withdraw(name);
    const listed = this.#listed.get(keyOf(name));
    if (listed !== undefined) listed.round = this.#round;
  }

  /** There is no file of this name: nothing that could differ from anything. */
  absent(name: ObjectName): void {
    const listed = this.#listed.get(keyOf(name));
    if (listed !== undefined) listed.suspect = false;
  }

  /** Its file has been removed. */
  unlinked(name: ObjectName): void {
    const listed = this.#listed.get(keyOf(name));
    if (listed === undefined) return;
    listed.leaving = false;
    listed.gone = true;
  }

  /** It could not be made, and there may be a file of its name that has to go. */
  abandoned(name: ObjectName): void {
    const listed = this.#listed.get(keyOf(name));
    if (listed !== undefined) listed.leaving = true;
  }

  /** What a flush promises of single blocks, or that they are `zeroed`; settles when it is stable. */
  log(entries: readonly JournalEntry[], data: readonly Uint8Array[]): Promise<void> {
    return this.#append(entries, data);
  }

  /**
   * These objects are stable in their own files as of `upTo` in the journal; settles when that is
   * stable too, and the journal's older words about them are void.
   */
  async homed(objects: readonly { name: ObjectName; upTo: JournalPoint }[]): Promise<void> {
    const owed = objects.filter(({ name }) => this.#listed.get(keyOf(name))?.redo !== undefined);
    if (owed.length === 0) return;
    const entries = owed.map(({ name, upTo }) => entry(ENTRY.homed, name, BigInt(upTo.sequence)));
    await this.#append(entries);
    for (const { name, upTo } of owed) {
      const listed = this.#listed.get(keyOf(name));
      if (listed?.redo === undefined) continue;
      const { sequence, segment } = listed.redo;
      // What came later is owed still, and that stands in no older segment.
      listed.redo =
        sequence <= upTo.sequence
          ? undefined
          : { sequence, segment: Math.max(segment, upTo.segment) };
    }
  }

  /** They are clean: no longer listed. Losing this costs nothing but a look after a crash. */
  retire(names: readonly ObjectName[]): Promise<void> {
    for (const name of names) this.#listed.delete(keyOf(name));
    return this.#append(names.map((name) => entry(ENTRY.retire, name, 0n)));
  }

  /** A clean stop: all is stable. Doubt stays of what nobody has opened, and of what was to go. */
  markClean(): Promise<void> {
    const left = [...this.#listed.values()].filter(
      ({ suspect, leaving, name }) => suspect || leaving || this.isAnnounced(name),
    );
    return this.#append([entry(ENTRY.clean, NO_NAME, 0n), ...left.map(listEntry)]);
  }

  snapshot(): JournalEntry[] {
    // Before there is a journal, everything an earlier one owed has been done.
    const entries = [entry(ENTRY.reset, NO_NAME, this.#journal === undefined ? 1n : 0n)];
    for (const listed of this.#listed.values()) {
      entries.push(listed.gone ? { ...listEntry(listed), type: ENTRY.remove } : listEntry(listed));
    }
    return entries;
  }

  appended(entries: readonly SequencedEntry[], segment: number): void {
    for (const { type, name, sequence } of entries) {
      if (!REDO_TYPES.has(type)) continue;
      const listed = this.#listed.get(keyOf(name));
      if (listed !== undefined) {
        listed.redo = { segment: listed.redo?.segment ?? segment, sequence };
      }
    }
  }

  #append(entries: readonly JournalEntry[], data: readonly Uint8Array[] = []): Promise<void> {
    if (this.#journal === undefined) return Promise.reject(new Error('no journal yet'));
    return this.#journal.append(entries, data);
  }
}

/** What a replay does something with. */
const REDO_TYPES: ReadonlySet<EntryType> = new Set([
  ENTRY.create,
  ENTRY.data,
  ENTRY.hole,
  ENTRY.remove,
  ENTRY.zeroed,
]);

function entry(type: EntryType, name: ObjectName, detail: bigint): JournalEntry {
  return { type, name, stamp: NO_STAMP, objectBytes: 0, detail, sum: 0 };
}

function listEntry({ name, stamp, objectBytes, boot }: Listed): JournalEntry {
  return { type: ENTRY.list, name, stamp, objectBytes, detail: boot, sum: 0 };
}

function keyOf(name: ObjectName): number | string {
  return objectKey(name.kind, name.vid, name.index);
}
