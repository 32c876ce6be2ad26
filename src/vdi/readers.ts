import { isDamage, isFault } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { DataNames } from './data-names.ts';
import { LEAF_ENTRIES } from './inode-format.ts';
import { type Entries, readLeaf, readRootEntry } from './inode-nodes.ts';
import { isLive, type VolumeRecord } from './record.ts';

/** Objects that are asked for their sources between two pauses: each may have to be opened. */
const ASKED_AT_ONCE = 16;

/** One that was deleted or released, among its family. */
export interface DeadMember {
  readonly store: ObjectStore;
  /** Deleted or released. */
  readonly record: VolumeRecord;
  /** The records of its family, read after it began to be deleted; without ghosts is enough. */
  readonly family: readonly VolumeRecord[];
  /** Others that were deleted or released and count as live, because their own turn is still to come. */
  readonly waiting?: ReadonlySet<Vid>;
}

/** How work in small steps goes on. */
export interface Steps {
  readonly signal?: AbortSignal;
  /** Called after each small step, so that clients are served in between. */
  readonly pause?: () => Promise<void>;
}

/** Lets others go first; throws what the signal was aborted with. */
export async function pause(steps: Steps): Promise<void> {
  steps.signal?.throwIfAborted();
  await steps.pause?.();
}

/** Whether the root of this one is being copied: then nothing of it may go. */
export function isBeingCopied({ vid }: VolumeRecord, family: readonly VolumeRecord[]): boolean {
  return family.some(({ state, parent }) => state === 'making' && parent === vid);
}

/** Who wants to know what is read at some indexes. */
export interface Seeker {
  /** Whether it still matters who reads there. */
  isOpen(index: number): boolean;
  /** There somebody reads objects of these vids; undefined: of any, because nobody can tell. */
  isRead(index: number, vids: Uint32Array | readonly Vid[] | undefined): void;
}

/** The members of a family whose references count: the living, and those whose root is being copied. */
export class Readers {
  readonly #store: ObjectStore;
  readonly #members: readonly VolumeRecord[];
  /** Those whose leaves are all there: one that was given up while it was made may lack some. */
  readonly #whole: ReadonlySet<Vid>;
  readonly #names: DataNames;

  constructor({ store, record, family, waiting }: DeadMember) {
    const making = family.filter(({ state }) => state === 'making');
    const copied = new Set(making.map(({ parent }) => parent));
    this.#store = store;
    this.#members = family.filter((member) => {
      const { vid } = member;
      return vid !== record.vid && (isLive(member) || copied.has(vid) || waiting?.has(vid));
    });
    const whole = this.#members.filter((each) => isLive(each) || copied.has(each.vid));
    this.#whole = new Set(whole.map(({ vid }) => vid));
    this.#names = new DataNames(record.family);
  }

  /** Whether there are any. */
  get some(): boolean {
    return this.#members.length > 0;
  }

  /** @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
  async at(leaf: number): Promise<LeafReaders> {
    const owners = new Set<Vid>();
    const certain = new Set<Vid>();
    for (const member of this.#members) {
      const reading = readRootEntry(this.#store, member, leaf);
      // One that was given up while it was made may have no root.
      const owner = isLive(member) ? await reading : ((await orAbsent(reading)) ?? 0);
      owners.add(owner);
      if (this.#whole.has(member.vid)) certain.add(owner);
    }
    owners.delete(0);
    return new LeafReaders({ store: this.#store, names: this.#names, leaf, owners, certain });
  }

  /**
   * Makes stable what they have let go of: no power cut may bring a reference back alone, be it to an
   * object or to a leaf.
   */
  async flush(): Promise<void> {
    for (const { vid } of this.#members) await this.#store.flush(vid);
  }
}

/**
 * What they read in one leaf: a member needs an object if its inode names it, or if it names one that
 * inherits blocks of it.
 */
export class LeafReaders {
  readonly leaf: number;
  /** Whose leaves they have here: each is read once, however many share it. */
  readonly owners: ReadonlySet<Vid>;
  /** Those of them whose leaf is there. */
  readonly #certain: ReadonlySet<Vid>;
  readonly #store: ObjectStore;
  readonly #names: DataNames;

  constructor(parts: {
    readonly store: ObjectStore;
    readonly names: DataNames;
    readonly leaf: number;
    readonly owners: ReadonlySet<Vid>;
    readonly certain: ReadonlySet<Vid>;
  }) {
    this.leaf = parts.leaf;
    this.owners = parts.owners;
    this.#certain = parts.certain;
    this.#store = parts.store;
    this.#names = parts.names;
  }

  /** @param owner  one of `owners` @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
  async entries(owner: Vid): Promise<Entries> {
    const reading = readLeaf(this.#store, owner, this.#names.family, this.leaf);
    if (this.#certain.has(owner)) return reading;
    // It was removed because nobody alive had it.
    return (await orAbsent(reading)) ?? new Uint32Array(LEAF_ENTRIES);
  }

  /** Tells the seeker of everything that is read at these indexes, as long as it matters there. */
  async tell(seeker: Seeker, indexes: readonly number[], steps: Steps): Promise<void> {
    for (const owner of this.owners) {
      const entries = await this.entries(owner);
      let asked = 0;
      for (const index of indexes) {
        const named = entries[index % LEAF_ENTRIES] as Vid;
        if (named === 0 || !seeker.isOpen(index)) continue;
        await this.#tellOf(seeker, owner, index, named);
        asked += 1;
        if (asked % ASKED_AT_ONCE === 0) await pause(steps);
      }
    }
  }

  async #tellOf(seeker: Seeker, owner: Vid, index: number, named: Vid): Promise<void> {
    if (named === 0) return;
    seeker.isRead(index, [named]);
    if (!seeker.isOpen(index)) return;
    try {
      seeker.isRead(index, await this.#store.sources(this.#names.of(named, index)));
    } catch (error) {
      if (!isDamage(error)) throw error;
      const now = (await this.entries(owner))[index % LEAF_ENTRIES] as Vid;
      // Freed by its owner meanwhile, or damaged: then what it may need is kept.
      if (now === named) seeker.isRead(index, undefined);
      else await this.#tellOf(seeker, owner, index, now);
    }
  }
}

/** What is read, or undefined if it is not there. */
export async function orAbsent<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isFault(error, 'ERR_MISSING')) return undefined;
    throw error;
  }
}
