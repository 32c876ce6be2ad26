import type { Call } from './call.ts';

/** `value` is absent when the key was removed or its lease ran out. */
export interface Change {
  readonly key: string;
  readonly value?: Uint8Array;
  readonly revision: bigint;
}
export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  /**
   * Revision of the whole store at which this key was last changed. It grows by one with each swap
   * that changes anything, and all keys of that swap get it.
   */
  readonly revision: bigint;
}

/** One key of a `swap`: written, or removed where `value` is absent, if still at `revision`. */
export interface Swap {
  readonly key: string;
  /** The revision the key must have; 0n: it must be absent. */
  readonly revision: bigint;
  readonly value?: Uint8Array;
}

/** Feeds liveness only; safety comes from epochs. */
export interface Lease extends AsyncDisposable {
  /** Aborted once the lease may have run out: take a new one and check what you hold. */
  readonly lost: AbortSignal;
}

/**
 * The few things we ask of etcd, in its words: keys in one ordered space, revisions, watches,
 * leases. Suite: test/contracts/coordinator.ts; passed by cluster/local-coordinator.ts and, later,
 * by the etcd driver. A settled change survives a power cut.
 */
export interface Coordinator extends AsyncDisposable {
  get(key: string, call?: Call): Promise<Entry | undefined>;
  /** Every entry whose key starts with `prefix`, in order of keys, all of one revision. */
  list(prefix: string, call?: Call): Promise<{ entries: readonly Entry[]; revision: bigint }>;
  /**
   * All of `swaps` or none. False: some key was not at its revision, and nothing changed.
   * @param swaps  a key at most once; 128 keys and 1 MiB together, keys of at most 1024 bytes
   * @throws SheepError `ERR_LIMIT`, `ERR_NO_SPACE`: nothing changed
   */
  swap(swaps: readonly Swap[], call?: Call): Promise<boolean>;
  /**
   * Changes to keys below `prefix` with a revision above `after`, in order, none skipped; ends when
   * `call.signal` aborts. @throws SheepError `ERR_NOT_FOUND` if `after` is older than what is kept:
   * list again, and watch from there.
   */
  watch(prefix: string, after: bigint, call?: Call): AsyncIterable<Change>;
  /** Writes `key` for as long as it is kept alive; it is removed `ttlMs` after its holder died. */
  lease(key: string, value: Uint8Array, ttlMs: number, call?: Call): Promise<Lease>;
}
