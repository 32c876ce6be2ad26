import { LRUCache } from 'lru-cache';
import { INDEXES_MAX } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { FarmLimits } from './limits.ts';
import type { OpenObject } from './open-object.ts';

/** Objects found at once, without the map and the order of the LRU; a power of two. */
const NEAR = 16_384;
/** Of so many finds one counts as a use for the LRU; a power of two. */
const USES_PER_TOUCH = 16;
/** Of an open object, besides what it holds: as measured, with its file. */
const OBJECT_ITSELF_BYTES = 2304;

/**
 * The objects that are open. Clean ones lie in an LRU of stated size; what must not be closed (it
 * is not stable, or in use) is kept beside it until it may.
 */
export class OpenSet {
  readonly #recent: LRUCache<number | string, OpenObject>;
  #opened = 0;
  readonly #kept = new Map<number | string, OpenObject>();
  /** A copy of some of both, each in the one place that follows from its key. */
  readonly #near: (OpenObject | undefined)[] = new Array(NEAR).fill(undefined);
  readonly #gates = new KeyedGates<number | string>((key, gate) => {
    const object = this.find(key);
    if (object === undefined) return;
    object.gate = gate;
    if (gate !== undefined) return;
    this.#countAnew(object);
    this.relax(object);
  });

  constructor(limits: FarmLimits) {
    this.#recent = new LRUCache({
      max: limits.openObjects,
      maxSize: limits.openTableBytes,
      sizeCalculation: (object) => object.countedBytes,
      dispose: (object, key, reason) => {
        if (reason !== 'evict') return;
        if (isIdle(object)) this.#close(object);
        else this.#kept.set(key, object);
      },
    });
  }

  get size(): number {
    return this.#recent.size + this.#kept.size;
  }

  find(key: number | string): OpenObject | undefined {
    const near = this.#near[placeOf(key)];
    if (near !== undefined && near.key === key) {
      near.finds += 1;
      if ((near.finds & (USES_PER_TOUCH - 1)) !== 0) return near;
    }
    const object = this.#recent.get(key) ?? this.#kept.get(key);
    if (object !== undefined) this.#near[placeOf(key)] = object;
    return object;
  }

  /** The same, unless somebody is inside it, or waits for it, who keeps readers out. */
  findReadable(key: number | string): OpenObject | undefined {
    const object = this.find(key);
    return object?.gate === undefined || object.gate.readable ? object : undefined;
  }

  /** Somebody is inside the object of this key, or waits for it; opening it is that, too. */
  hasGate(key: number | string): boolean {
    return this.#gates.find(key) !== undefined;
  }

  /** How many were ever opened or made. */
  get opened(): number {
    return this.#opened;
  }

  add(object: OpenObject): void {
    this.#opened += 1;
    object.gate = this.#gates.find(object.key);
    this.#keep(object);
  }

  /** Nobody writes to it for a while: it takes no more memory than it needs. */
  rest(object: OpenObject): void {
    if (!isIdle(object)) return;
    object.fold();
    this.#countAnew(object);
  }

  /** Closes it; whoever calls holds its gate alone. */
  drop(object: OpenObject): void {
    this.#recent.delete(object.key);
    this.#kept.delete(object.key);
    this.#close(object);
  }

  /** It may have become idle: back among those that may be closed. */
  relax(object: OpenObject): void {
    if (!isIdle(object) || this.#kept.get(object.key) !== object) return;
    this.#kept.delete(object.key);
    this.#keep(object);
  }

  #keep(object: OpenObject): void {
    object.countedBytes = object.heldBytes + OBJECT_ITSELF_BYTES;
    this.#recent.set(object.key, object);
  }

  /** It may have grown, or shrunk. */
  #countAnew(object: OpenObject): void {
    if (object.heldBytes + OBJECT_ITSELF_BYTES === object.countedBytes) return;
    if (this.#recent.delete(object.key)) this.#keep(object);
  }

  *values(): Generator<OpenObject> {
    yield* this.#recent.values();
    yield* this.#kept.values();
  }

  /**
   * Runs `work` behind the gate of an object, open or not. While anybody is at the gate,
   * `OpenObject.gate` keeps fast paths out.
   */
  pass<T>(key: number | string, exclusive: boolean, work: () => Promise<T>): Promise<T> {
    return this.#gates.pass(key, exclusive, work);
  }

  closeAll(): void {
    for (const object of this.values()) this.#close(object);
    this.#recent.clear();
    this.#kept.clear();
  }

  #close(object: OpenObject): void {
    const place = placeOf(object.key);
    if (this.#near[place] === object) this.#near[place] = undefined;
    object.close();
  }
}

/**
 * With a flush under way it is not: what is stable in its file the journal may still take for older
 * than its own words, and whoever flushes the object has to find it.
 */
function isIdle(object: OpenObject): boolean {
  const { clean, dirty, gate, works } = object;
  return clean && dirty.count === 0 && gate === undefined && works === 0;
}

/** Objects of one index, which read each other when they inherit, lie apart. */
function placeOf(key: number | string): number {
  if (typeof key === 'string') return 0;
  return (key + Math.floor(key / INDEXES_MAX) * 61) & (NEAR - 1);
}
