import type { ObjectName, Vid } from '../base/ids.ts';
import type { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled, forEachAtMost } from '../base/parallel.ts';
import type { Call } from '../contracts/call.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import type { DataNames } from './data-names.ts';
import { objectCount, type Piece, pieces } from './geometry.ts';
import type { Inode } from './inode.ts';
import { Turnstile } from './turnstile.ts';

/** Objects freed by one step of a trim: each step costs one flush of the inode. */
const TRIM_BATCH = 256;

/** What a volume and its changes share. */
export interface ChangeParts {
  readonly store: ObjectStore;
  readonly inode: Inode;
  readonly names: DataNames;
  /** One for each index: whoever makes or frees an object, or changes its entry, is alone at it. */
  readonly gates: KeyedGates<number>;
  readonly objectBytes: number;
}

/** Who changes: the vid that gets the objects, and the call that carries its stamp. */
export interface Changer {
  readonly vid: Vid;
  readonly plain: ObjectWriteCall;
}

/**
 * The changes of a VDI that may make or free objects: data first, the inode's entry after. What an
 * ancestor owns is never touched: a new object inherits its blocks, and holds what is written.
 */
export class ObjectChanges {
  readonly #parts: ChangeParts;
  #changer: Changer;
  /** All changes pass; shut while the VDI becomes another one. */
  readonly writers = new Turnstile();
  /** Steps of a trim of whole objects pass this first: each may take long, so it is shut earlier. */
  readonly frees = new Turnstile();
  /** How often the inode was changed. */
  inodeChanges = 0;

  constructor(parts: ChangeParts, changer: Changer) {
    this.#parts = parts;
    this.#changer = changer;
  }

  become(changer: Changer): void {
    this.#changer = changer;
  }

  /** A write inside one object, which is made if it is not there or is an ancestor's. */
  write(index: number, at: number, from: Uint8Array): Promise<void> {
    return this.#alone(index, async (owner) => {
      const call = this.#changing(owner);
      await this.#parts.store.write(this.#own(index), at, from, call);
      if (owner !== this.#changer.vid) await this.#nowOwned(index);
    });
  }

  /** Whole objects of the range leave the inode; in others the range becomes a hole. */
  async clear(at: number, length: number, sizeBytes: number, call: Call = {}): Promise<void> {
    const { objectBytes } = this.#parts;
    const whole: number[] = [];
    const end = at + length;
    let index = Math.floor(at / objectBytes);
    const endIndex = objectCount(end, objectBytes);
    for (;;) {
      index = this.#skipHoles(index, endIndex);
      if (index === endIndex) break;
      call.signal?.throwIfAborted();
      const start = index * objectBytes;
      const from = Math.max(at, start) - start;
      const to = Math.min(end, start + objectBytes) - start;
      const last = Math.min(objectBytes, sizeBytes - start);
      if (from > 0 || to < last) await this.#clearPart({ index, at: from, length: to - from });
      else whole.push(index);
      if (whole.length === TRIM_BATCH) await this.#free(whole.splice(0));
      index += 1;
    }
    if (whole.length > 0) await this.#free(whole);
  }

  /**
   * The next object that may have to be cleared. One that somebody is at is none to skip: an entry
   * that is being taken out comes back if that fails.
   */
  #skipHoles(index: number, endIndex: number): number {
    const { inode, gates } = this.#parts;
    let next = inode.skipHoles(index, endIndex);
    if (next === index) return next;
    for (const taken of gates.keys()) if (taken >= index && taken < next) next = taken;
    return next;
  }

  /** The range reads as zeroes and keeps its space, in objects that are made for it. */
  async reserveZeroes(at: number, length: number, { signal }: Call = {}): Promise<void> {
    const { store, objectBytes } = this.#parts;
    await forEachAtMost(8, pieces(at, length, objectBytes), ({ index, at: from, length: bytes }) =>
      this.#alone(index, async (owner) => {
        signal?.throwIfAborted();
        const call = { ...this.#changing(owner), keepAllocated: true };
        await store.zero(this.#own(index), from, bytes, call);
        if (owner !== this.#changer.vid) await this.#nowOwned(index);
      }),
    );
  }

  #clearPart({ index, at, length }: Pick<Piece, 'index' | 'at' | 'length'>): Promise<void> {
    const { store, names } = this.#parts;
    return this.#alone(index, async (owner) => {
      if (owner === 0) return;
      if (owner !== this.#changer.vid) {
        const extents = await store.extents(names.of(owner, index), at, length);
        if (extents.every(({ content }) => content !== 'data')) return;
      }
      const call = { ...this.#changing(owner), keepAllocated: false };
      await store.zero(this.#own(index), at, length, call);
      if (owner !== this.#changer.vid) await this.#nowOwned(index);
    });
  }

  /** The entries stable first, the objects after; an ancestor's object loses only its entry. */
  #free(indexes: readonly number[]): Promise<void> {
    const { store, inode, gates, objectBytes } = this.#parts;
    const step = async () => {
      const owners = await Promise.all(indexes.map((index) => inode.owner(index)));
      const { vid, plain } = this.#changer;
      const held = indexes.filter((_, place) => owners[place] !== 0);
      const names = indexes
        .filter((_, place) => owners[place] === vid)
        .map((index) => this.#own(index));
      if (held.length === 0) return;
      if (names.length > 0) await store.announce(names, objectBytes, plain);
      const nodes = await this.#setOwners(held, 0);
      if (names.length === 0) return;
      await store.flush(vid, nodes);
      await allSettled(names.map(async (name) => store.remove(name, plain)));
    };
    return this.frees.pass(() => this.writers.pass(() => gates.passAll(indexes, step)));
  }

  #alone(index: number, work: (owner: Vid) => Promise<void>): Promise<void> {
    const { inode, gates } = this.#parts;
    return this.writers.pass(() =>
      gates.pass(index, true, async () => work(await inode.owner(index))),
    );
  }

  /** The call that changes an object of this owner: makes it, unless it is ours. */
  #changing(owner: Vid): ObjectWriteCall {
    const { plain, vid } = this.#changer;
    if (owner === vid) return plain;
    const create = { ...plain, createBytes: this.#parts.objectBytes, unowned: true as const };
    return owner === 0 ? create : { ...create, inherits: owner };
  }

  /** The entry of an object that was just made; without one it is nobody's, and goes again. */
  async #nowOwned(index: number): Promise<void> {
    try {
      await this.#setOwners([index], this.#changer.vid);
      this.#parts.store.owned(this.#own(index));
    } catch (error) {
      await this.#dropUnowned(index).catch(() => undefined); // the first error is the one to be told
      throw error;
    }
  }

  async #dropUnowned(index: number): Promise<void> {
    const { store, inode } = this.#parts;
    const { vid, plain } = this.#changer;
    if ((await inode.owner(index)) !== vid) await store.remove(this.#own(index), plain);
  }

  async #setOwners(indexes: readonly number[], owner: Vid): Promise<ObjectName[]> {
    try {
      return await this.#parts.inode.setOwners(indexes, owner);
    } finally {
      this.inodeChanges += 1; // some of it, if not all
    }
  }

  #own(index: number): ObjectName {
    return this.#parts.names.of(this.#changer.vid, index);
  }
}
