import { assert } from '../base/assert.ts';
import type { ByteStream } from '../contracts/net.ts';
import type { NbdLimits } from './limits.ts';
import type { Slab, SlabOwner, SlabPool } from './slabs.ts';

const NOTHING = new Uint8Array(0);

/** A run of reply bytes whose contents come later; the frames around it leave without it. */
export interface Held {
  readonly slab: Slab;
  readonly from: number;
  readonly to: number;
}

/**
 * The replies of one connection. Those of one received chunk gather in a slab and leave in one
 * write. A reply that has to wait keeps its place in the slab, and leaves by itself later.
 *
 * Invariant: of the current slab, the bytes before `#from` have left or are held, those from
 * `#from` to `#at` are complete and leave with the next `flush`.
 */
export class Outbound implements SlabOwner {
  readonly #stream: ByteStream;
  readonly #pool: SlabPool;
  readonly #limits: NbdLimits;
  readonly #freed: () => void;
  #slab: Slab | undefined;
  #from = 0;
  #at = 0;
  /** Places in the current slab that are held. */
  #heldHere = 0;
  #taken = 0;
  #closed = false;

  /** @param freed  called when a slab came back: perhaps this is no longer `full` */
  constructor(stream: ByteStream, pool: SlabPool, limits: NbdLimits, freed: () => void) {
    this.#stream = stream;
    this.#pool = pool;
    this.#limits = limits;
    this.#freed = freed;
  }

  /**
   * True: no request that needs another slab may start now. Never of a connection that has none: so
   * nobody waits for what others do not take.
   */
  get full(): boolean {
    return this.#taken > 0 && !this.mayTake(1);
  }
  /** Whether so many more slabs may be taken at once. */
  mayTake(count: number): boolean {
    const { slabsMax, slabsAssured, slabsSharedMax, slabsTotalMax } = this.#limits;
    const taken = this.#taken + count;
    const lent = this.#pool.lent + count;
    if (taken > slabsMax || lent > slabsTotalMax) return false;
    return taken <= slabsAssured || lent <= slabsSharedMax;
  }

  /** A reply will come that may need a slab: until `unclaim`, one less is to be had. */
  claim(): void {
    this.#taken += 1;
    this.#pool.claim();
  }
  unclaim(): void {
    this.#taken -= 1;
    this.#pool.unclaim();
  }

  /** Given to the socket and not yet taken by the system. */
  get unsentBytes(): number {
    return this.#stream.unsentBytes;
  }
  /** Calls `taken` once all that was sent so far has been taken, or the stream is gone. */
  onceTaken(taken: () => void): void {
    this.#stream.write(NOTHING, taken);
  }

  /** Slabs that are being filled, sent or waited for, or claimed: 0 when nothing is under way. */
  get taken(): number {
    return this.#taken;
  }

  /** The slab in which the latest `reserve` lies. */
  get slab(): Slab {
    const slab = this.#slab;
    assert(slab !== undefined, 'something is reserved');
    return slab;
  }

  /** A place for `length` bytes of reply in `slab`, to be filled before the next call. */
  reserve(length: number): number {
    if (this.#slab === undefined || this.#at + length > this.#limits.slabBytes) this.#next();
    const at = this.#at;
    this.#at = at + length;
    if (at - this.#from >= this.#limits.gatherBytes) this.#send(at);
    return at;
  }

  /** Takes back the latest `reserve`, which began at `at`. */
  cancel(at: number): void {
    this.#at = at;
  }

  /** The latest `reserve`, which began at `at`, is completed later: see `sendHeld`. */
  hold(at: number): Held {
    const { slab } = this;
    const held = { slab, from: at, to: this.#at };
    this.#send(at);
    this.#from = held.to;
    this.#heldHere += 1;
    slab.keep();
    return held;
  }
  /** Sends what was held, whole; the replies before it that are complete leave first. */
  sendHeld(held: Held): void {
    if (this.#closed) {
      this.dropHeld(held);
      return;
    }
    this.#send(this.#at);
    this.#stream.write(held.slab.bytes.subarray(held.from, held.to), held.slab.release);
    if (held.slab === this.#slab) this.#heldHere -= 1;
  }
  /** What was held is not needed. */
  dropHeld(held: Held): void {
    held.slab.release();
    if (held.slab === this.#slab) this.#heldHere -= 1;
  }

  /** Sends what has gathered. Called once per received chunk, and when waiting replies complete. */
  flush(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    this.#send(this.#at);
    // A slab with held places is filled up: each waiting read would pin a whole one otherwise.
    if (this.#heldHere === 0) this.#leave(slab);
  }

  /** The stream is gone: what is or becomes complete is dropped. */
  close(): void {
    this.#closed = true;
  }
  get closed(): boolean {
    return this.#closed;
  }

  slabFreed(): void {
    this.#taken -= 1;
    this.#freed();
  }

  #next(): void {
    if (this.#slab !== undefined) {
      this.#send(this.#at);
      this.#leave(this.#slab);
    }
    this.#taken += 1;
    this.#slab = this.#pool.take(this);
    this.#from = 0;
    this.#at = 0;
    this.#heldHere = 0;
  }
  /** Sends the complete bytes before `to`. */
  #send(to: number): void {
    if (this.#from === to) return;
    const { slab } = this;
    if (!this.#closed) {
      slab.keep();
      this.#stream.write(slab.bytes.subarray(this.#from, to), slab.release);
    }
    this.#from = to;
  }
  #leave(slab: Slab): void {
    this.#slab = undefined;
    slab.release();
  }
}
