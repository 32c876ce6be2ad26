import { Gate } from './gate.ts';

/** A gate for each key that anybody is at: readers together, writers alone, in the order of calls. */
export class KeyedGates<K> {
  readonly #gates = new Map<K, Gate>();
  readonly #opened: ((key: K, gate: Gate | undefined) => void) | undefined;

  /** `opened` is told when a key gets a gate, and (undefined) when nobody is at it any more. */
  constructor(opened?: (key: K, gate: Gate | undefined) => void) {
    this.#opened = opened;
  }

  /** The gate of a key, if anybody is at it. */
  find(key: K): Gate | undefined {
    return this.#gates.size === 0 ? undefined : this.#gates.get(key);
  }

  /** The keys that anybody is at. */
  keys(): Iterable<K> {
    return this.#gates.keys();
  }

  /** Runs `work` behind the gate of `key`. */
  async pass<T>(key: K, exclusive: boolean, work: () => Promise<T> | T): Promise<T> {
    await this.#enter(key, exclusive);
    try {
      return await work();
    } finally {
      this.#leave(key, exclusive);
    }
  }

  /** Runs `work` alone behind the gates of all `keys`, each once; sorted, so that two of them cannot block. */
  async passAll<T>(keys: readonly K[], work: () => Promise<T>): Promise<T> {
    const sorted = [...new Set(keys)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    await Promise.all(sorted.map((key) => this.#enter(key, true)));
    try {
      return await work();
    } finally {
      for (const key of sorted) this.#leave(key, true);
    }
  }

  #enter(key: K, exclusive: boolean): Promise<void> {
    let gate = this.#gates.get(key);
    if (gate === undefined) {
      gate = new Gate();
      this.#gates.set(key, gate);
      this.#opened?.(key, gate);
    }
    return gate.enter(exclusive);
  }

  #leave(key: K, exclusive: boolean): void {
    const gate = this.#gates.get(key);
    gate?.leave(exclusive);
    if (gate?.idle !== true) return;
    this.#gates.delete(key);
    this.#opened?.(key, undefined);
  }
}
