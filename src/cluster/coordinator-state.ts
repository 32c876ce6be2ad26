import { assert } from '../base/assert.ts';
import type { Change, Entry, Swap } from '../contracts/coordinator.ts';
import type { KeyChange, LogChange } from './coordinator-log.ts';

/** What a coordinator holds in memory: every key, and the last changes for those who watch. */
export class CoordinatorState {
  readonly #entries = new Map<string, Entry & { readonly leased: boolean }>();
  readonly #history: LogChange[] = [];
  readonly #historyMax: number;
  #revision: bigint;

  /**
   * @param base  what was there at `revision`; nobody can watch from before it
   * @param historyMax  how many revisions are kept for `changesAfter`
   */
  constructor(base: readonly LogChange[], revision: bigint, historyMax: number) {
    this.#historyMax = historyMax;
    this.#revision = revision;
    for (const change of base) this.#store(change);
  }

  /** Of the last change; 0n before the first. */
  get revision(): bigint {
    return this.#revision;
  }

  get(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    return entry && { key, value: entry.value, revision: entry.revision };
  }

  /** In the order of the keys' UTF-8 bytes, as etcd has it. */
  list(prefix: string): Entry[] {
    const entries: Entry[] = [];
    for (const [key, { value, revision }] of this.#entries) {
      if (key.startsWith(prefix)) entries.push({ key, value, revision });
    }
    return entries.sort((a, b) => compareUtf8(a.key, b.key));
  }

  leasedKeys(): string[] {
    return [...this.#entries.values()].filter((entry) => entry.leased).map((entry) => entry.key);
  }

  apply(change: LogChange): void {
    assert(change.revision === this.#revision + 1n, 'revisions grow by one');
    this.#revision = change.revision;
    this.#store(change);
    this.#history.push(change);
    // Dropped by halves, so that keeping the history costs nothing each time.
    if (this.#history.length >= 2 * this.#historyMax) this.#history.splice(0, this.#historyMax);
  }

  /**
   * Changes with a revision above `after`, or undefined if some of them are no longer kept.
   * @param after  0n or more; above `revision`: there are none yet
   */
  changesAfter(after: bigint): readonly LogChange[] | undefined {
    if (after >= this.#revision) return [];
    const first = this.#history[0]?.revision ?? this.#revision + 1n;
    if (after + 1n < first) return undefined;
    return this.#history.slice(Number(after + 1n - first));
  }

  /** Everything there is, as the base of a new log: by revision, no two changes with the same. */
  base(): LogChange[] {
    const byRevision = new Map<bigint, KeyChange[]>();
    for (const { key, value, revision, leased } of this.#entries.values()) {
      const keys = byRevision.get(revision) ?? [];
      keys.push({ key, value, leased });
      byRevision.set(revision, keys);
    }
    return [...byRevision]
      .map(([revision, keys]) => ({ revision, keys }))
      .sort((a, b) => (a.revision < b.revision ? -1 : 1));
  }

  #store(change: LogChange): void {
    const { revision } = change;
    for (const { key, value, leased } of change.keys) {
      if (value === undefined) this.#entries.delete(key);
      else this.#entries.set(key, { key, value, revision, leased });
    }
  }
}

/** The changes of single keys below `prefix`, as a watcher sees them. */
export function watched(changes: readonly LogChange[], prefix: string): Change[] {
  return changes.flatMap(({ revision, keys }) =>
    keys
      .filter(({ key }) => key.startsWith(prefix))
      .map(({ key, value }) =>
        value === undefined ? { key, revision } : { key, value, revision },
      ),
  );
}

/**
 * Decides swaps one after the other, each upon the effect of those before it, before any of them is
 * on the medium.
 */
export class Draft {
  readonly #state: CoordinatorState;
  readonly #touched = new Map<string, bigint>();
  readonly changes: LogChange[] = [];

  constructor(state: CoordinatorState) {
    this.#state = state;
  }

  /** The revision that `swaps` get; undefined if some key is not at its revision. */
  swap(swaps: readonly Swap[]): bigint | undefined {
    if (swaps.some(({ key, revision }) => this.#revisionOf(key) !== revision)) return undefined;
    const keys = swaps
      .filter(({ value, revision }) => value !== undefined || revision !== 0n)
      .map(({ key, value }) => ({ key, ...(value && { value }), leased: false }));
    return this.#add(keys);
  }

  /** The revision that `key` gets, whatever was there. */
  putLeased(key: string, value: Uint8Array): bigint {
    return this.#add([{ key, value, leased: true }]);
  }

  #add(keys: readonly KeyChange[]): bigint {
    const last = this.changes.at(-1)?.revision ?? this.#state.revision;
    if (keys.length === 0) return last;
    const revision = last + 1n;
    this.changes.push({ revision, keys });
    for (const { key, value } of keys) this.#touched.set(key, value ? revision : 0n);
    return revision;
  }

  #revisionOf(key: string): bigint {
    return this.#touched.get(key) ?? this.#state.get(key)?.revision ?? 0n;
  }
}

/** UTF-16 sorts pairs of surrogates below U+E000 to U+FFFF, UTF-8 above; else they agree. */
function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left === right) continue;
    const [leftPair, rightPair] = [isSurrogate(left), isSurrogate(right)];
    if (leftPair !== rightPair) return leftPair ? 1 : -1;
    return left - right;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}
