import { LRUCache } from 'lru-cache';
import { Bitmap } from '../base/bitmap.ts';
import type { ObjectName, Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled } from '../base/parallel.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import {
  entryBlockAt,
  type InodeHeader,
  LEAF_BYTES,
  LEAF_ENTRIES,
  LEAVES_MAX,
  leafName,
  rootName,
} from './inode-format.ts';
import { type Entries, readLeaf, readRoot } from './inode-nodes.ts';

/** Leaves kept in memory: 64 KiB each, which together speak of 32 TiB at 4 MiB an object. */
const LEAVES_IN_MEMORY = 512;
/** What a leaf that is not there says. */
const ABSENT: Entries = new Uint32Array(LEAF_ENTRIES);

/** Which vid owns each object of a VDI, kept in the store and read as it is needed. */
export class Inode {
  readonly #store: ObjectStore;
  readonly #family: Vid;
  readonly #root: Entries;
  /** The leaves that the root names: a few in a large disk, and found without a look at the rest. */
  readonly #present = new Bitmap(LEAVES_MAX);
  /** Shared by everything that speaks of their objects. */
  readonly #leaves = new LRUCache<number, Entries>({ max: LEAVES_IN_MEMORY });
  readonly #loading = new Map<number, Promise<Entries>>();
  /** Changes of a leaf come one after the other. */
  readonly #changing = new KeyedGates<number>();
  /** Leaves that were made and may not stand in the root, because that could not be written. */
  readonly #unnamed = new Set<number>();
  #vid: Vid;
  #call: ObjectWriteCall;
  #lastLeaf = -1;
  #lastEntries: Entries | undefined;

  private constructor(
    store: ObjectStore,
    { vid, family }: InodeHeader,
    root: Entries,
    call: ObjectWriteCall,
  ) {
    this.#store = store;
    this.#family = family;
    this.#root = root;
    for (let leaf = 0; leaf < LEAVES_MAX; leaf += 1) if (root[leaf] !== 0) this.#present.add(leaf);
    this.#vid = vid;
    this.#call = call;
  }

  /**
   * Reads the root.
   * @param call  with the stamp under which entries will be changed
   * @throws SheepError `ERR_MISSING` if it was never finished, `ERR_CORRUPT` if it is not the inode
   *         of this VDI
   */
  static async open(
    store: ObjectStore,
    expected: InodeHeader,
    call: ObjectWriteCall,
  ): Promise<Inode> {
    return new Inode(store, expected, await readRoot(store, expected), call);
  }

  /** The entries of the root as they stand, while they may change. */
  rootNow(): Entries {
    return this.#root.slice();
  }

  /** The entries of the root, for the root of a child. Nothing is being changed. */
  async rootEntries(): Promise<Entries> {
    for (const leaf of this.#unnamed) await this.#nameLeaf(leaf);
    return this.#root.slice();
  }

  /** Goes on as the inode of a child whose root holds `rootEntries`. Nothing is being changed. */
  become(vid: Vid, call: ObjectWriteCall): void {
    this.#vid = vid;
    this.#call = call;
  }

  /** Whether this VDI has a leaf of its own here, and not its parent's or none. */
  ownsLeaf(leaf: number): boolean {
    return this.#root[leaf] === this.#vid;
  }

  /** The owner of an object if its leaf is in memory: 0 for a hole, undefined if it is not. */
  ownerNow(index: number): Vid | undefined {
    const leaf = Math.floor(index / LEAF_ENTRIES);
    if (leaf === this.#lastLeaf) {
      return (this.#lastEntries as Entries)[index - leaf * LEAF_ENTRIES];
    }
    if (this.#root[leaf] === 0) return 0;
    const entries = this.#leaves.get(leaf);
    if (entries === undefined) return undefined;
    this.#lastLeaf = leaf;
    this.#lastEntries = entries;
    return entries[index - leaf * LEAF_ENTRIES];
  }

  async owner(index: number): Promise<Vid> {
    const now = this.ownerNow(index);
    if (now !== undefined) return now;
    const entries = await this.#load(Math.floor(index / LEAF_ENTRIES));
    return entries[index % LEAF_ENTRIES] as Vid;
  }

  /**
   * The first index from `index` on that may have an owner, or `end`: skips absent leaves, and holes
   * in the leaves that are in memory.
   */
  skipHoles(index: number, end: number): number {
    let at = index;
    while (at < end) {
      const here = Math.floor(at / LEAF_ENTRIES);
      const leaf = this.#present.next(here);
      if (leaf > here) at = leaf * LEAF_ENTRIES;
      const entries = at < end ? this.#entriesNow(leaf) : undefined;
      if (entries === undefined) break;
      const start = leaf * LEAF_ENTRIES;
      let entry = at - start;
      while (entry < LEAF_ENTRIES && entries[entry] === 0) entry += 1;
      at = start + entry;
      if (entry < LEAF_ENTRIES) break;
    }
    return Math.min(at, end);
  }

  /**
   * The first index from `index` on that `other` may say another owner of, or `end`: skips leaves
   * that are shared, and owners that are the same in leaves that both have in memory.
   */
  sameUntil(other: Inode, index: number, end: number): number {
    let at = index;
    while (at < end) {
      const leaf = Math.floor(at / LEAF_ENTRIES);
      const start = leaf * LEAF_ENTRIES;
      let entry = LEAF_ENTRIES;
      if (this.#root[leaf] !== other.#root[leaf]) {
        const [ours, theirs] = [this.#entriesNow(leaf), other.#entriesNow(leaf)];
        if (ours === undefined || theirs === undefined) break;
        entry = at - start;
        while (entry < LEAF_ENTRIES && ours[entry] === theirs[entry]) entry += 1;
      }
      at = start + entry;
      if (entry < LEAF_ENTRIES) break;
    }
    return Math.min(at, end);
  }

  /**
   * Gives objects another owner (0: none); settles when the store holds it, and returns the nodes
   * that were changed, for whoever has to wait until they are stable. If it fails, what is said from
   * then on is what the store holds, be it the old or the new.
   */
  async setOwners(indexes: readonly number[], owner: Vid): Promise<ObjectName[]> {
    const byLeaf = Map.groupBy(indexes, (index) => Math.floor(index / LEAF_ENTRIES));
    const changed: ObjectName[] = [];
    for (const [leaf, members] of byLeaf) {
      const nodes = await this.#changing.pass(leaf, true, () => this.#change(leaf, members, owner));
      changed.push(...nodes);
    }
    return changed;
  }

  async #change(leaf: number, indexes: readonly number[], owner: Vid): Promise<ObjectName[]> {
    const made: ObjectName[] = [];
    if (this.#root[leaf] === 0 && owner === 0) return [];
    if (this.#root[leaf] !== this.#vid) await this.#makeLeaf(leaf);
    if (this.#unnamed.has(leaf)) made.push(await this.#nameLeaf(leaf));
    let entries = this.#leaves.get(leaf);
    // Whatever is changed must be what memory holds: a leaf may leave it while we wait.
    for (; entries === undefined; entries = this.#leaves.get(leaf)) await this.#load(leaf);
    for (const index of indexes) entries[index % LEAF_ENTRIES] = owner;
    const blocks = new Set(indexes.map((index) => entryBlockAt(index % LEAF_ENTRIES)));
    try {
      return [...made, await this.#writeLeaf(leaf, entries, blocks)];
    } catch (error) {
      this.#leaves.delete(leaf);
      if (this.#lastLeaf === leaf) this.#lastLeaf = -1;
      throw error;
    }
  }

  /** How many objects these vids own, and how many anybody does; reads every leaf. */
  async countOwned(isOwn: (vid: Vid) => boolean): Promise<{ own: number; all: number }> {
    const count = { own: 0, all: 0 };
    for (const [leaf, leafOwner] of this.#root.entries()) {
      if (leafOwner === 0) continue;
      for (const owner of await this.#load(leaf)) {
        if (owner === 0) continue;
        if (isOwn(owner)) count.own += 1;
        count.all += 1;
      }
    }
    return count;
  }

  /** The entries of a leaf if they are known without a look at the store. */
  #entriesNow(leaf: number): Entries | undefined {
    return this.#root[leaf] === 0 ? ABSENT : this.#leaves.peek(leaf);
  }

  #load(leaf: number): Promise<Entries> {
    const known = this.#leaves.get(leaf);
    if (known !== undefined) return Promise.resolve(known);
    const loading = this.#loading.get(leaf);
    if (loading !== undefined) return loading;
    const load = this.#read(leaf).finally(() => this.#loading.delete(leaf));
    this.#loading.set(leaf, load);
    return load;
  }

  async #read(leaf: number): Promise<Entries> {
    const owner = this.#root[leaf] as Vid;
    const entries =
      owner === 0
        ? new Uint32Array(LEAF_ENTRIES)
        : await readLeaf(this.#store, owner, this.#family, leaf);
    this.#leaves.set(leaf, entries);
    if (leaf === this.#lastLeaf) this.#lastEntries = entries;
    return entries;
  }

  /** A leaf of its own, empty or a copy of the parent's; the root names it after that. */
  async #makeLeaf(leaf: number): Promise<void> {
    const copied = this.#root[leaf] === 0 ? undefined : await this.#load(leaf);
    const name = leafName(this.#vid, this.#family, leaf);
    const create = { ...this.#call, createBytes: LEAF_BYTES, unowned: true as const };
    const bytes = copied && new Uint8Array(copied.slice().buffer);
    await this.#store.write(name, 0, bytes ?? new Uint8Array(BLOCK_BYTES), create);
    // What the copy says was stable in the parent: no power cut may leave the root's entry alone.
    if (copied !== undefined) await this.#store.flush(this.#vid, [name]);
    this.#root[leaf] = this.#vid;
    this.#present.add(leaf);
    this.#unnamed.add(leaf);
  }

  /** The root's entry of a leaf that was made. If it fails, it is the next change's first step. */
  async #nameLeaf(leaf: number): Promise<ObjectName> {
    const root = rootName(this.#vid, this.#family);
    const at = entryBlockAt(leaf);
    await this.#store.write(root, BLOCK_BYTES + at, blockOf(this.#root, at), this.#call);
    this.#unnamed.delete(leaf);
    this.#store.owned(leafName(this.#vid, this.#family, leaf));
    return root;
  }

  /**
   * All writes are called in the turn in which the entries changed: so a leaf that leaves memory
   * and is read again shows them, by the store's order.
   */
  async #writeLeaf(
    leaf: number,
    entries: Entries,
    blocks: ReadonlySet<number>,
  ): Promise<ObjectName> {
    const name = leafName(this.#vid, this.#family, leaf);
    const write = async (at: number) =>
      this.#store.write(name, at, blockOf(entries, at), this.#call);
    await allSettled([...blocks].map(write));
    return name;
  }
}

/** A copy of a block of entries: others may change them while the store still reads it. */
function blockOf(entries: Entries, at: number): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const bytes = new Uint8Array(entries.buffer, entries.byteOffset, entries.byteLength);
  block.set(bytes.subarray(at, at + BLOCK_BYTES));
  return block;
}
