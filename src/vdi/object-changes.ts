import type { ObjectName, Vid } from '../base/ids.ts';
import type { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled, forEachAtMost } from '../base/parallel.ts';
import type { Call, Completion } from '../contracts/call.ts';
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
    return this.#alone(index, (owner) =>
      this.#change(index, owner, (call) =>
        this.#parts.store.write(this.#own(index), at, from, call),
      ),
    );
  }

  /**
   * Whole objects of the range leave the inode; in others the range becomes a hole.
   * @param sizeBytes  asked again and again: a disk may grow, and its last object with it
   */
  async clear(at: number, length: number, sizeBytes: () => number, call: Call = {}): Promise<void> {
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
      const toEnd = () => start + to >= sizeBytes();
      if (from === 0 && to === objectBytes) whole.push(index);
      else if (from > 0 || !toEnd() || !(await this.#free([index], toEnd))) {
        await this.#clearPart({ index, at: from, length: to - from });
      }
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
        await this.#change(index, owner, (call) =>
          store.zero(this.#own(index), from, bytes, { ...call, keepAllocated: true }),
        );
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
      await this.#change(index, owner, (call) =>
        store.zero(this.#own(index), at, length, { ...call, keepAllocated: false }),
      );
    });
  }

  /**
   * The entries stable first, the objects after; an ancestor's object loses only its entry.
   * @param due  asked when nobody else can change them any more; if not, nothing is done
   */
  #free(indexes: readonly number[], due: () => boolean = always): Promise<boolean> {
    const { inode, gates, store, objectBytes } = this.#parts;
    const step = async () => {
      if (!due()) return false;
      const owners = await Promise.all(indexes.map((index) => inode.owner(index)));
      const { vid, plain } = this.#changer;
      const held = indexes.filter((_, place) => owners[place] !== 0);
      const own = indexes.filter((_, place) => owners[place] === vid);
      if (held.length === 0) return true;
      const names = own.map((index) => this.#own(index));
      if (names.length > 0) await store.announce(names, objectBytes, plain);
      const nodes = await this.#setOwners(held, 0).catch(async (error: unknown) => {
        // Some may be out all the same: what comes next finds no entry, and would leave them. If that
        // fails too, the first error is the one to be told.
        await this.#dropFreed(own).catch(() => undefined);
        throw error;
      });
      await this.#dropStable(own, nodes);
      return true;
    };
    return this.frees.pass(() => this.writers.pass(() => gates.passAll(indexes, step)));
  }

  /** Those that no entry names go, once that is stable; the others are what they were. */
  async #dropFreed(own: readonly number[]): Promise<void> {
    const { inode, store } = this.#parts;
    const out: number[] = [];
    for (const index of own) {
      if ((await inode.owner(index)) === this.#changer.vid) store.owned(this.#own(index));
      else out.push(index);
    }
    await this.#dropStable(out);
  }

  /** @param nodes  where they were taken out; all of the VDI is flushed if not given */
  async #dropStable(out: readonly number[], nodes?: readonly ObjectName[]): Promise<void> {
    if (out.length === 0) return;
    const { store } = this.#parts;
    const { vid, plain } = this.#changer;
    await store.flush(vid, nodes);
    await allSettled(out.map(async (index) => store.remove(this.#own(index), plain)));
  }

  #alone(index: number, work: (owner: Vid) => Promise<void>): Promise<void> {
    const { inode, gates } = this.#parts;
    return this.writers.pass(() =>
      gates.pass(index, true, async () => work(await inode.owner(index))),
    );
  }

  /** Changes an object of this owner. One that is made for it gets its entry, or goes again. */
  async #change(
    index: number,
    owner: Vid,
    change: (call: ObjectWriteCall) => Completion,
  ): Promise<void> {
    const { plain, vid } = this.#changer;
    if (owner === vid) return change(plain);
    const create = { ...plain, createBytes: this.#parts.objectBytes, unowned: true as const };
    try {
      await change(owner === 0 ? create : { ...create, inherits: owner });
      await this.#setOwners([index], vid);
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

const always = () => true;
