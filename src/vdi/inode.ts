import { LRUCache } from 'lru-cache';
import { isFault, SheepError } from '../base/errors.ts';
import type { ObjectName, Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled } from '../base/parallel.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import {
  decodeInodeHeader,
  encodeInodeHeader,
  entryBlockAt,
  type InodeHeader,
  LEAF_BYTES,
  LEAF_ENTRIES,
  leafCount,
  leafName,
  rootBytes,
  rootName,
} from './inode-format.ts';

/** Leaves kept in memory: 64 KiB each, which together speak of 32 TiB at 4 MiB an object. */
const LEAVES_MAX = 512;

/** A leaf in memory; shared by everything that speaks of its objects. */
type Leaf = Uint32Array<ArrayBuffer>;

/** Which vid owns each object of a VDI, kept in the store and read as it is needed. */
export class Inode {
  readonly #store: ObjectStore;
  readonly #header: InodeHeader;
  readonly #root: Uint32Array<ArrayBuffer>;
  readonly #leaves = new LRUCache<number, Leaf>({ max: LEAVES_MAX });
  readonly #loading = new Map<number, Promise<Leaf>>();
  /** Changes of a leaf come one after the other. */
  readonly #changing = new KeyedGates<number>();
  readonly #call: ObjectWriteCall;
  #lastLeaf = -1;
  #lastEntries: Leaf | undefined;

  private constructor(
    store: ObjectStore,
    header: InodeHeader,
    root: Uint32Array<ArrayBuffer>,
    call: ObjectWriteCall,
  ) {
    this.#store = store;
    this.#header = header;
    this.#root = root;
    this.#call = call;
  }

  /** Writes the inode of an empty disk; settles when it survives a power cut. */
  static async make(store: ObjectStore, header: InodeHeader, call: ObjectWriteCall): Promise<void> {
    const name = rootName(header.vid, header.family);
    const createBytes = rootBytes(header);
    await store.write(name, 0, encodeInodeHeader(header), { ...call, createBytes });
    await store.flush(header.vid, [name]);
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
    const name = rootName(expected.vid, expected.family);
    const header = new Uint8Array(BLOCK_BYTES);
    await store.read(name, 0, header);
    if (header.every((byte) => byte === 0)) {
      const { vid } = expected;
      throw new SheepError('ERR_MISSING', `the inode of vid ${vid} was never written`, { vid });
    }
    const found = decodeInodeHeader(header);
    for (const field of ['vid', 'family', 'sizeBytes', 'objectBytes'] as const) {
      if (found[field] === expected[field]) continue;
      throw new SheepError(
        'ERR_CORRUPT',
        `the inode of vid ${expected.vid} says ${field} ${found[field]}, ` +
          `its record says ${expected[field]}`,
        { vid: expected.vid },
      );
    }
    const entries = new Uint8Array(rootBytes(expected) - BLOCK_BYTES);
    await store.read(name, BLOCK_BYTES, entries);
    const root = new Uint32Array(entries.buffer, 0, leafCount(expected));
    return new Inode(store, found, root, call);
  }

  /** The same, or undefined if there is none: its making or its removal was cut short. */
  static async openIfPresent(
    store: ObjectStore,
    expected: InodeHeader,
    call: ObjectWriteCall,
  ): Promise<Inode | undefined> {
    try {
      return await Inode.open(store, expected, call);
    } catch (error) {
      if (isFault(error, 'ERR_MISSING')) return undefined;
      throw error;
    }
  }

  /** The owner of an object if its leaf is in memory: 0 for a hole, undefined if it is not. */
  ownerNow(index: number): Vid | undefined {
    const leaf = Math.floor(index / LEAF_ENTRIES);
    if (leaf === this.#lastLeaf) {
      return (this.#lastEntries as Leaf)[index - leaf * LEAF_ENTRIES];
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

  /** The first index from `index` on that may have an owner, or `end`: skips whole absent leaves. */
  skipAbsent(index: number, end: number): number {
    let at = index;
    while (at < end && this.#root[Math.floor(at / LEAF_ENTRIES)] === 0) {
      at = (Math.floor(at / LEAF_ENTRIES) + 1) * LEAF_ENTRIES;
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
    if (this.#root[leaf] === 0) {
      if (owner === 0) return [];
      made.push(await this.#makeLeaf(leaf));
    }
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

  /** How many objects have an owner; reads every leaf. */
  async countOwned(): Promise<number> {
    let owned = 0;
    for (let leaf = 0; leaf < this.#root.length; leaf += 1) {
      if (this.#root[leaf] === 0) continue;
      for (const owner of await this.#load(leaf)) if (owner !== 0) owned += 1;
    }
    return owned;
  }

  /**
   * For a removal: indexes of the objects that `vid` owns, ascending. A leaf that is gone has none:
   * it goes after its objects.
   */
  async *ownedBy(vid: Vid): AsyncGenerator<number> {
    for (let leaf = 0; leaf < this.#root.length; leaf += 1) {
      if (this.#root[leaf] === 0) continue;
      const entries = await this.#load(leaf).catch(noneIfMissing);
      for (const [place, owner] of entries.entries()) {
        if (owner === vid) yield leaf * LEAF_ENTRIES + place;
      }
    }
  }

  /** For a removal: leaves that may belong to this vid; one may have missed its entry in the root. */
  ownLeaves(): ObjectName[] {
    const { vid, family } = this.#header;
    const others = (leaf: number) => this.#root[leaf] !== 0 && this.#root[leaf] !== vid;
    const leaves = [...this.#root.keys()].filter((leaf) => !others(leaf));
    return leaves.map((leaf) => leafName(vid, family, leaf));
  }

  #load(leaf: number): Promise<Leaf> {
    const known = this.#leaves.get(leaf);
    if (known !== undefined) return Promise.resolve(known);
    const loading = this.#loading.get(leaf);
    if (loading !== undefined) return loading;
    const load = this.#read(leaf).finally(() => this.#loading.delete(leaf));
    this.#loading.set(leaf, load);
    return load;
  }

  async #read(leaf: number): Promise<Leaf> {
    const entries = new Uint32Array(LEAF_ENTRIES);
    const owner = this.#root[leaf] as Vid;
    if (owner !== 0) {
      const name = leafName(owner, this.#header.family, leaf);
      await this.#store.read(name, 0, new Uint8Array(entries.buffer));
    }
    this.#leaves.set(leaf, entries);
    if (leaf === this.#lastLeaf) this.#lastEntries = entries;
    return entries;
  }

  /** An empty leaf first, the root's entry after. Without that one, the next change makes it anew. */
  async #makeLeaf(leaf: number): Promise<ObjectName> {
    const { vid, family } = this.#header;
    const empty = new Uint8Array(BLOCK_BYTES);
    const create = { ...this.#call, createBytes: LEAF_BYTES };
    await this.#store.write(leafName(vid, family, leaf), 0, empty, create);
    this.#root[leaf] = vid;
    const root = rootName(vid, family);
    const at = entryBlockAt(leaf);
    try {
      const block = blockOf(this.#root, at);
      await this.#store.write(root, BLOCK_BYTES + at, block, this.#call);
    } catch (error) {
      this.#root[leaf] = 0;
      throw error;
    }
    return root;
  }

  /**
   * All writes are called in the turn in which the entries changed: so a leaf that leaves memory
   * and is read again shows them, by the store's order.
   */
  async #writeLeaf(leaf: number, entries: Leaf, blocks: ReadonlySet<number>): Promise<ObjectName> {
    const { vid, family } = this.#header;
    const name = leafName(vid, family, leaf);
    const write = async (at: number) =>
      this.#store.write(name, at, blockOf(entries, at), this.#call);
    await allSettled([...blocks].map(write));
    return name;
  }
}

function noneIfMissing(error: unknown): Leaf {
  if (isFault(error, 'ERR_MISSING')) return new Uint32Array(0);
  throw error;
}

/** A copy of a block of entries: others may change them while the store still reads it. */
function blockOf(entries: Leaf, at: number): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const bytes = new Uint8Array(entries.buffer, entries.byteOffset, entries.byteLength);
  block.set(bytes.subarray(at, at + BLOCK_BYTES));
  return block;
}
