import { KIND, type ObjectName } from '../base/ids.ts';
import { allSettled } from '../base/parallel.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { DataNames } from './data-names.ts';
import { entryBlockAt, LEAF_ENTRIES, leafName, rootName } from './inode-format.ts';
import { type Entries, readLeaf, readRoot } from './inode-nodes.ts';
import { orAbsent, pause, type Steps } from './readers.ts';
import { plainCall, type VolumeRecord } from './record.ts';

/** Objects removed at the same time: they share the syncs that removing costs. */
const REMOVE_BATCH = 64;
/** Names whose entries are looked up between two pauses. */
const LISTED_AT_ONCE = 1024;

/** What is left of one that was deleted or released: its objects, its leaves, its root. */
export class Remains {
  readonly #store: ObjectStore;
  readonly #dead: VolumeRecord;
  readonly #names: DataNames;
  readonly #steps: Steps;

  constructor(
    store: ObjectStore,
    dead: VolumeRecord,
    steps: Steps,
    names = new DataNames(dead.family),
  ) {
    this.#store = store;
    this.#dead = dead;
    this.#names = names;
    this.#steps = steps;
  }

  /** The leaves that are its own, by its root: none once that is gone. */
  async leaves(): Promise<number[]> {
    const root = await orAbsent(readRoot(this.#store, this.#dead));
    if (root === undefined) return [];
    return [...root.keys()].filter((leaf) => root[leaf] === this.#dead.vid);
  }

  /** Indexes of the objects that a leaf names as its own; a leaf goes after its objects. */
  async ownIn(leaf: number): Promise<number[]> {
    const own: number[] = [];
    (await this.#entries(leaf))?.forEach((owner, place) => {
      if (owner === this.#dead.vid) own.push(leaf * LEAF_ENTRIES + place);
    });
    return own;
  }

  /** @param removed  is told of each batch */
  async removeObjects(
    indexes: readonly number[],
    removed: (count: number) => void = () => undefined,
  ): Promise<void> {
    for (let at = 0; at < indexes.length; at += REMOVE_BATCH) {
      const batch = indexes.slice(at, at + REMOVE_BATCH);
      await this.#remove(batch.map((index) => this.#names.of(this.#dead.vid, index)));
      removed(batch.length);
      await pause(this.#steps);
    }
  }

  /** The entries of objects that were removed, so that nobody looks at them again. */
  async clearEntries(leaf: number, indexes: readonly number[]): Promise<void> {
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

  /** What was being made or freed when everything stopped, and has no entry in the inode. */
  async removeUnsettled(leaves: ReadonlySet<number>): Promise<void> {
    const { vid } = this.#dead;
    const unsettled = this.#store.unsettled(vid).toSorted((a, b) => a.index - b.index);
    let looked = -1;
    let entries: Entries | undefined;
    for (const [count, name] of unsettled.entries()) {
      if ((count + 1) % LISTED_AT_ONCE === 0) await pause(this.#steps);
      if (name.kind === KIND.inode) {
        if (name.index > 0 && !leaves.has(name.index - 1)) await this.#remove([name]);
        continue;
      }
      const leaf = Math.floor(name.index / LEAF_ENTRIES);
      if (leaf !== looked) {
        entries = leaves.has(leaf) ? await this.#entries(leaf) : undefined;
        looked = leaf;
      }
      if (entries?.[name.index % LEAF_ENTRIES] !== vid) await this.#remove([name]);
    }
  }

  /** A leaf that names none of its objects any more. */
  removeLeaf(leaf: number): Promise<void> {
    return this.#remove([leafName(this.#dead.vid, this.#dead.family, leaf)]);
  }

  /** The last of it; settles when all that was removed stays away. */
  async removeRoot(): Promise<void> {
    const { vid, family } = this.#dead;
    await this.#remove([rootName(vid, family)]);
    await this.#store.flush(vid);
  }

  #entries(leaf: number): Promise<Entries | undefined> {
    return orAbsent(readLeaf(this.#store, this.#dead.vid, this.#dead.family, leaf));
  }

  async #remove(names: readonly ObjectName[]): Promise<void> {
    this.#steps.signal?.throwIfAborted();
    const call = plainCall(this.#dead);
    await allSettled(names.map(async (name) => this.#store.remove(name, call)));
  }
}
