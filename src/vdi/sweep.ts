import { isDamage, isFault } from '../base/errors.ts';
import { KIND, type Vid } from '../base/ids.ts';
import { allSettled } from '../base/parallel.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Call } from '../contracts/call.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { DataNames } from './data-names.ts';
import { entryBlockAt, LEAF_ENTRIES, leafName, rootName } from './inode-format.ts';
import { type Entries, readLeaf, readRoot, readRootEntry } from './inode-nodes.ts';
import { isLive, plainCall, type VolumeRecord } from './record.ts';

/** Objects removed at the same time: they share the syncs that removing costs. */
const REMOVE_BATCH = 64;
/** Objects that are asked for their sources between two pauses: each may have to be opened. */
const ASKED_AT_ONCE = 16;
/** Leaves that are counted, and names whose entries are looked up, between two pauses. */
const LEAVES_AT_ONCE = 16;
const LISTED_AT_ONCE = 1024;

export interface SweepOptions extends Call {
  /** Objects of the dead VDI that were looked at, of so many. */
  readonly progress?: (done: number, total: number) => void;
  /** Called after each small step, so that clients are served in between. */
  readonly pause?: () => Promise<void>;
}

export interface SweepParts {
  readonly store: ObjectStore;
  /** Deleted or released. */
  readonly record: VolumeRecord;
  /** Every record of its family, read after it began to be deleted. */
  readonly family: readonly VolumeRecord[];
}

/**
 * Removes the objects of a deleted VDI or snapshot that nobody of its family needs, and its inode
 * once none is left. Can be cut short anywhere and run again.
 *
 * A live member needs an object if its inode names it, or if it names one that inherits blocks of
 * it. References to what is being deleted only ever shrink, so what a look finds unneeded stays so,
 * once the look itself is stable.
 * @returns true if nothing is left
 */
export async function sweep(parts: SweepParts, options: SweepOptions = {}): Promise<boolean> {
  const { record, family } = parts;
  const making = family.filter(({ state }) => state === 'making').map(({ parent }) => parent);
  if (making.includes(record.vid)) return false; // its root is being copied
  const live = family.filter((member) => isLive(member) || making.includes(member.vid));
  return new Sweep(parts, live, options).run();
}

class Sweep {
  readonly #store: ObjectStore;
  readonly #dead: VolumeRecord;
  readonly #live: readonly VolumeRecord[];
  readonly #names: DataNames;
  readonly #options: SweepOptions;
  #done = 0;
  #total = 0;

  constructor({ store, record }: SweepParts, live: readonly VolumeRecord[], options: SweepOptions) {
    this.#store = store;
    this.#dead = record;
    this.#live = live;
    this.#names = new DataNames(record.family);
    this.#options = options;
  }

  async run(): Promise<boolean> {
    const { vid, family } = this.#dead;
    const root = await orAbsent(readRoot(this.#store, this.#dead));
    const leaves = root === undefined ? [] : [...root.keys()].filter((leaf) => root[leaf] === vid);
    await this.#removeUnsettled(new Set(leaves));
    for (const [count, leaf] of leaves.entries()) {
      this.#total += (await this.#ownIn(leaf)).length;
      if ((count + 1) % LEAVES_AT_ONCE === 0) await this.#pause();
    }
    let kept = 0;
    for (const leaf of leaves) {
      kept += await this.#sweepLeaf(leaf);
      await this.#pause();
    }
    if (kept > 0) return false;
    await this.#remove([rootName(vid, family)]);
    await this.#store.flush(vid);
    return true;
  }

  /** What was being made or freed when everything stopped, and has no entry in the inode. */
  async #removeUnsettled(leaves: ReadonlySet<number>): Promise<void> {
    const { vid, family } = this.#dead;
    const unsettled = this.#store.unsettled(vid).toSorted((a, b) => a.index - b.index);
    let looked = -1;
    let entries: Entries | undefined;
    for (const [count, name] of unsettled.entries()) {
      if ((count + 1) % LISTED_AT_ONCE === 0) await this.#pause();
      if (name.kind === KIND.inode) {
        if (name.index > 0 && !leaves.has(name.index - 1)) await this.#remove([name]);
        continue;
      }
      const leaf = Math.floor(name.index / LEAF_ENTRIES);
      if (leaf !== looked) {
        entries = leaves.has(leaf)
          ? await orAbsent(readLeaf(this.#store, vid, family, leaf))
          : undefined;
        looked = leaf;
      }
      if (entries?.[name.index % LEAF_ENTRIES] !== vid) await this.#remove([name]);
    }
  }

  /** @returns how many objects had to stay, or 1 if only the leaf had to */
  async #sweepLeaf(leaf: number): Promise<number> {
    const own = await this.#ownIn(leaf);
    const { vid, family } = this.#dead;
    const owners = new Set<Vid>();
    for (const member of this.#live) owners.add(await readRootEntry(this.#store, member, leaf));
    if (owners.has(vid)) {
      this.#progress(own.length);
      return Math.max(own.length, 1);
    }
    const needed = new Set<number>();
    for (const owner of owners) if (owner !== 0) await this.#findNeeded(leaf, owner, own, needed);
    const unneeded = own.filter((index) => !needed.has(index));
    // What was just read need not be stable: no power cut may bring a reference back alone, be it to
    // an object or to the leaf itself.
    if (unneeded.length > 0 || needed.size === 0) {
      for (const member of this.#live) await this.#store.flush(member.vid);
    }
    this.#progress(needed.size);
    for (let at = 0; at < unneeded.length; at += REMOVE_BATCH) {
      const batch = unneeded.slice(at, at + REMOVE_BATCH);
      await this.#remove(batch.map((index) => this.#names.of(vid, index)));
      this.#progress(batch.length);
      await this.#pause();
    }
    if (needed.size === 0) await this.#remove([leafName(vid, family, leaf)]);
    else if (unneeded.length > 0) await this.#clearEntries(leaf, unneeded);
    return needed.size;
  }

  /** Adds those of `own` that the objects in this leaf of a live member are or inherit from. */
  async #findNeeded(leaf: number, owner: Vid, own: readonly number[], needed: Set<number>) {
    const { family } = this.#dead;
    const entries = await readLeaf(this.#store, owner, family, leaf);
    let asked = 0;
    for (const index of own) {
      if (needed.has(index)) continue;
      const named = entries[index % LEAF_ENTRIES] as Vid;
      if (named === 0) continue;
      if (await this.#needs(leaf, owner, index, named)) needed.add(index);
      asked += 1;
      if (asked % ASKED_AT_ONCE === 0) await this.#pause();
    }
  }

  /** Whether the object of `named`, which stands in this leaf, is the dead one or inherits from it. */
  async #needs(leaf: number, owner: Vid, index: number, named: Vid): Promise<boolean> {
    const { vid, family } = this.#dead;
    if (named === 0 || named === vid) return named === vid;
    try {
      return (await this.#store.sources(this.#names.of(named, index))).includes(vid);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const again = await readLeaf(this.#store, owner, family, leaf);
      const now = again[index % LEAF_ENTRIES] as Vid;
      // Freed by its owner meanwhile, or damaged: then what it may need is kept.
      return now === named || this.#needs(leaf, owner, index, now);
    }
  }

  /** So that the next sweep does not look at them again. */
  async #clearEntries(leaf: number, indexes: readonly number[]): Promise<void> {
    const { vid, family } = this.#dead;
    const entries = await readLeaf(this.#store, vid, family, leaf);
    for (const index of indexes) entries[index % LEAF_ENTRIES] = 0;
    const blocks = new Set(indexes.map((index) => entryBlockAt(index % LEAF_ENTRIES)));
    const bytes = new Uint8Array(entries.buffer);
    const name = leafName(vid, family, leaf);
    for (const at of blocks) {
      const block = bytes.subarray(at, at + BLOCK_BYTES);
      await this.#store.write(name, at, block, plainCall(this.#dead));
    }
  }

  /** Indexes of the objects that a leaf names as its own; a leaf goes after its objects. */
  async #ownIn(leaf: number): Promise<number[]> {
    const { vid, family } = this.#dead;
    const entries: Entries | undefined = await orAbsent(readLeaf(this.#store, vid, family, leaf));
    const own: number[] = [];
    entries?.forEach((owner, place) => {
      if (owner === vid) own.push(leaf * LEAF_ENTRIES + place);
    });
    return own;
  }

  async #remove(names: readonly Parameters<ObjectStore['remove']>[0][]): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const call = plainCall(this.#dead);
    await allSettled(names.map(async (name) => this.#store.remove(name, call)));
  }

  #progress(more: number): void {
    this.#done += more;
    this.#options.progress?.(this.#done, this.#total);
  }

  async #pause(): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#options.pause?.();
  }
}

async function orAbsent<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isFault(error, 'ERR_MISSING')) return undefined;
    throw error;
  }
}
