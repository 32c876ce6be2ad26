import { assert } from '../base/assert.ts';
import type { NbdLimits } from './limits.ts';

/** Who has a slab at the moment, and wants to know when it is free again. */
export interface SlabOwner {
  slabFreed(): void;
}

/** One unit of reply memory: filled from the front, given back when its last user is done. */
export class Slab {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly #pool: SlabPool;
  #users = 0;
  #owner: SlabOwner | undefined;
  /** One user less. A function of its own, made once, because sockets call it back. */
  readonly release: () => void;

  constructor(length: number, pool: SlabPool) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
    this.#pool = pool;
    this.release = () => {
      assert(this.#users > 0, 'a slab is released as often as it was kept');
      this.#users -= 1;
      if (this.#users > 0) return;
      const owner = this.#owner;
      this.#owner = undefined;
      this.#pool.give(this);
      owner?.slabFreed();
    };
  }

  takenBy(owner: SlabOwner): this {
    this.#owner = owner;
    this.#users = 1;
    return this;
  }
  /** One user more: a write under way, or a read that fills a part of it. */
  keep(): void {
    this.#users += 1;
  }
}

/** The reply memory of a whole server. */
export class SlabPool {
  readonly #limits: NbdLimits;
  readonly #idle: Slab[] = [];
  #lent = 0;

  constructor(limits: NbdLimits) {
    this.#limits = limits;
  }

  /** Slabs that all connections together have at the moment, or have claimed. */
  get lent(): number {
    return this.#lent;
  }
  take(owner: SlabOwner): Slab {
    this.#lent += 1;
    const slab = this.#idle.pop() ?? new Slab(this.#limits.slabBytes, this);
    return slab.takenBy(owner);
  }
  /** One is spoken for that will be taken later, or is not any more. */
  claim(): void {
    this.#lent += 1;
  }
  unclaim(): void {
    this.#lent -= 1;
  }
  give(slab: Slab): void {
    this.#lent -= 1;
    if (this.#idle.length < this.#limits.slabsIdleMax) this.#idle.push(slab);
  }
}
