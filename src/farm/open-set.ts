import { LRUCache } from 'lru-cache';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { FarmLimits } from './limits.ts';
import type { OpenObject } from './open-object.ts';

/**
 * The objects that are open. Clean ones lie in an LRU of stated size; what must not be closed (it
 * is not stable, or in use) is kept beside it until it may.
 */
export class OpenSet {
  readonly #recent: LRUCache<number | string, OpenObject>;
  readonly #kept = new Map<number | string, OpenObject>();
  readonly #gates = new KeyedGates<number | string>((key, gate) => {
    const object = this.find(key);
    if (object === undefined) return;
    object.gate = gate;
    if (gate === undefined) this.relax(object);
  });

  constructor(limits: FarmLimits) {
    this.#recent = new LRUCache({
      max: limits.openObjects,
      maxSize: limits.openTableBytes,
      sizeCalculation: (object) => object.table.byteLength + 1024,
      dispose: (object, key, reason) => {
        if (reason !== 'evict') return;
        if (isIdle(object)) object.close();
        else this.#kept.set(key, object);
      },
    });
  }

  get size(): number {
    return this.#recent.size + this.#kept.size;
  }

  find(key: number | string): OpenObject | undefined {
    return this.#recent.get(key) ?? this.#kept.get(key);
  }

  add(object: OpenObject): void {
    object.gate = this.#gates.find(object.key);
    this.#recent.set(object.key, object);
  }

  /** Closes it; whoever calls holds its gate alone. */
  drop(object: OpenObject): void {
    this.#recent.delete(object.key);
    this.#kept.delete(object.key);
    object.close();
  }

  /** It may have become idle: back among those that may be closed. */
  relax(object: OpenObject): void {
    if (!isIdle(object) || this.#kept.get(object.key) !== object) return;
    this.#kept.delete(object.key);
    this.#recent.set(object.key, object);
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
    for (const object of this.values()) object.close();
    this.#recent.clear();
    this.#kept.clear();
  }
}

function isIdle(object: OpenObject): boolean {
  return object.clean && object.dirty.count === 0 && object.gate === undefined;
}
