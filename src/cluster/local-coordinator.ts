import { assert } from '../base/assert.ts';
import { describeError, isFault, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Call } from '../contracts/call.ts';
import type { Change, Coordinator, Entry, Lease, Swap } from '../contracts/coordinator.ts';
import type { Disk } from '../contracts/disk.ts';
import { encodedBytes, encodeRecord, type KeyChange } from './coordinator-log.ts';
import { CoordinatorState, Draft, watched } from './coordinator-state.ts';
import {
  BATCH_BYTES_MAX,
  COMPACT_BYTES_MIN,
  COMPACT_GARBAGE_RATIO,
  HISTORY_REVISIONS_MAX,
  KEY_BYTES_MAX,
  SWAP_BYTES_MAX,
  SWAP_KEYS_MAX,
} from './limits.ts';
import { LogFile, type LogPlace } from './log-file.ts';

export interface LocalCoordinatorOptions {
  readonly disk: Disk;
  /** The store; the caller holds its lock, so nobody else has this log open. */
  readonly directory: string;
  /** 16 bytes. */
  readonly clusterId: Uint8Array;
  /** Whether the log may be made if it is not there: only in a store that holds nothing yet. */
  readonly create: boolean;
  readonly log: Log;
}

/** Name of the log in the store. */
export const LOG_NAME = 'coordinator.log';

/**
 * The coordinator of a single node: everything in memory, every change in one append-only log.
 * Changes that come while a sync runs share the next one. A lease lasts as long as this process:
 * no clock measures it, because who opens the log has the store's lock, which proves the one before
 * dead; its leased keys are removed then.
 * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`, `ERR_VERSION`
 */
export async function openLocalCoordinator(options: LocalCoordinatorOptions): Promise<Coordinator> {
  const { disk, directory, clusterId, log } = options;
  const path = `${directory}/${LOG_NAME}`;
  const place: LogPlace = { disk, path, clusterId, log };
  if (!(await isThere(options))) {
    const file = await LogFile.create(place, [], 0n);
    return new LocalCoordinator(place, file, new CoordinatorState([], 0n, HISTORY_REVISIONS_MAX));
  }
  const { file, contents } = await LogFile.open(place);
  const { base, changes, header } = contents;
  const state = new CoordinatorState(base, header.baseRevision, HISTORY_REVISIONS_MAX);
  for (const change of changes) state.apply(change);
  await using owned = new AsyncDisposableStack();
  const coordinator = owned.use(new LocalCoordinator(place, file, state));
  await coordinator.removeLeased();
  owned.move();
  return coordinator;
}

/**
 * Looks whether the log can be opened, and changes nothing.
 * @throws SheepError as `openLocalCoordinator`
 */
export async function checkLocalCoordinator(
  options: Omit<LocalCoordinatorOptions, 'log'>,
): Promise<void> {
  const { disk, directory, clusterId } = options;
  if (await isThere(options)) {
    await LogFile.check({ disk, path: `${directory}/${LOG_NAME}`, clusterId });
  }
}

async function isThere({
  disk,
  directory,
  create,
}: Pick<LocalCoordinatorOptions, 'disk' | 'directory' | 'create'>): Promise<boolean> {
  const path = `${directory}/${LOG_NAME}`;
  if (await disk.exists(path)) return true;
  if (create) return false;
  throw new SheepError(
    'ERR_MISSING',
    `${path} is missing, and the store is not empty; restore the file from a backup`,
    { path },
  );
}

/** What waits for the next sync. */
interface Request {
  readonly bytes: number;
  /** The revision it gets, or undefined if it is not to be. */
  decide(draft: Draft): bigint | undefined;
  settle(revision: bigint | undefined): void;
  fail(error: unknown): void;
}

class LocalCoordinator implements Coordinator {
  readonly #place: LogPlace;
  readonly #state: CoordinatorState;
  readonly #queue: Request[] = [];
  readonly #watchers = new Set<() => void>();
  readonly #leases = new Set<AbortController>();
  #file: LogFile;
  #running: Promise<void> | undefined;
  /** Why it refuses everything: it was closed, or the medium failed. */
  #refusal: SheepError | undefined;
  #closed = false;
  #compactAbove = COMPACT_BYTES_MIN;

  constructor(place: LogPlace, file: LogFile, state: CoordinatorState) {
    this.#place = place;
    this.#file = file;
    this.#state = state;
  }

  async get(key: string, call?: Call): Promise<Entry | undefined> {
    this.#check(call);
    return this.#state.get(key);
  }

  async list(prefix: string, call?: Call): Promise<{ entries: Entry[]; revision: bigint }> {
    this.#check(call);
    return { entries: this.#state.list(prefix), revision: this.#state.revision };
  }

  async swap(swaps: readonly Swap[], call?: Call): Promise<boolean> {
    this.#check(call);
    const held = swaps.map((swap) => ({
      ...swap,
      ...(swap.value && { value: swap.value.slice() }),
    }));
    const keys = held.map(({ key, value }) => ({ key, ...(value && { value }), leased: false }));
    const bytes = checkLimits(keys);
    return (await this.#commit(bytes, (draft) => draft.swap(held))) !== undefined;
  }

  async *watch(prefix: string, after: bigint, call?: Call): AsyncIterable<Change> {
    const ended = () => call?.signal?.aborted === true;
    let seen = after;
    while (!ended()) {
      this.#check();
      const changes = this.#state.changesAfter(seen);
      if (changes === undefined) {
        throw new SheepError(
          'ERR_NOT_FOUND',
          `the changes after revision ${seen} are no longer kept; list again`,
          { after: seen, revision: this.#state.revision },
        );
      }
      for (const change of watched(changes, prefix)) {
        yield change;
        if (ended()) return;
      }
      seen = changes.at(-1)?.revision ?? seen;
      if (changes.length === 0) await this.#nextChange(call?.signal);
    }
  }

  async lease(key: string, value: Uint8Array, _ttlMs: number, call?: Call): Promise<Lease> {
    this.#check(call);
    const held = value.slice();
    const bytes = checkLimits([{ key, value: held, leased: true }]);
    const revision = await this.#commit(bytes, (draft) => draft.putLeased(key, held));
    assert(revision !== undefined, 'a lease depends on nothing');
    const lost = new AbortController();
    if (this.#refusal === undefined) this.#leases.add(lost);
    else lost.abort(this.#refusal);
    return {
      lost: lost.signal,
      [Symbol.asyncDispose]: async () => {
        if (!this.#leases.delete(lost)) return;
        lost.abort(new SheepError('ERR_SHUTDOWN', 'the lease was given back', { key }));
        await this.swap([{ key, revision }]);
      },
    };
  }

  /** Ends what a process that died held. */
  async removeLeased(): Promise<void> {
    const swaps = this.#state.leasedKeys().flatMap((key) => {
      const entry = this.#state.get(key);
      return entry === undefined ? [] : [{ key, revision: entry.revision }];
    });
    for (let at = 0; at < swaps.length; at += SWAP_KEYS_MAX) {
      await this.swap(swaps.slice(at, at + SWAP_KEYS_MAX));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#refuse(new SheepError('ERR_SHUTDOWN', 'the coordinator is closed'));
    await this.#running;
    await this.#file[Symbol.asyncDispose]();
  }

  #commit(bytes: number, decide: Request['decide']): Promise<bigint | undefined> {
    return new Promise((settle, fail) => {
      this.#queue.push({ bytes, decide, settle, fail });
      this.#running ??= this.#run();
    });
  }

  /** One record and one sync for all that waits, over and over. */
  async #run(): Promise<void> {
    await Promise.resolve(); // so that calls of the same turn share the first sync
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch();
      try {
        await this.#settle(batch);
        await this.#compact();
      } catch (error) {
        if (!isFault(error, 'ERR_NO_SPACE')) this.#break(error);
        for (const request of batch) request.fail(this.#refusal ?? error);
      }
    }
    this.#running = undefined; // in the turn of the last look at the queue: nothing is left lying
  }

  #takeBatch(): Request[] {
    let bytes = 0;
    const over = this.#queue.findIndex((request) => {
      bytes += request.bytes;
      return bytes > BATCH_BYTES_MAX;
    });
    return this.#queue.splice(0, over < 0 ? this.#queue.length : Math.max(over, 1));
  }

  async #settle(batch: readonly Request[]): Promise<void> {
    const draft = new Draft(this.#state);
    const revisions = batch.map((request) => request.decide(draft));
    if (draft.changes.length > 0) {
      await this.#file.append(encodeRecord(draft.changes));
      for (const change of draft.changes) this.#state.apply(change);
      this.#wake();
    }
    batch.forEach((request, index) => {
      request.settle(revisions[index]);
    });
  }

  /** Rewrites the log once most of it is about what is no more. */
  async #compact(): Promise<void> {
    if (this.#file.endBytes < this.#compactAbove) return;
    const base = this.#state.base();
    const liveBytes = base.reduce((sum, change) => sum + encodedBytes(change.keys), 0);
    this.#compactAbove = Math.max(COMPACT_BYTES_MIN, liveBytes * COMPACT_GARBAGE_RATIO);
    if (this.#file.endBytes < this.#compactAbove) return;
    const { log, path } = this.#place;
    const oldBytes = this.#file.endBytes;
    try {
      const file = await LogFile.create(this.#place, base, this.#state.revision);
      const old = this.#file;
      this.#file = file;
      await old[Symbol.asyncDispose]();
      log.event('info', 'coordinator.compacted', { path, oldBytes, bytes: file.endBytes });
    } catch (error) {
      if (!isFault(error, 'ERR_NO_SPACE')) throw error;
      log.event('warn', 'coordinator.not-compacted', { path, cause: describeError(error) });
      this.#compactAbove = 2 * oldBytes;
    }
  }

  #check(call?: Call): void {
    call?.signal?.throwIfAborted();
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  /** After a failed sync a later one may report success for what is lost: nothing is tried again. */
  #break(cause: unknown): void {
    const { path, log } = this.#place;
    log.event('error', 'coordinator.broken', { path, cause: describeError(cause) });
    this.#refuse(
      new SheepError(
        'ERR_IO',
        `${path} could not be written, and what it holds is not known any more; ` +
          'look after the disk, then start sheep again',
        { path },
        cause,
      ),
    );
    for (const request of this.#queue.splice(0)) request.fail(this.#refusal);
  }

  #refuse(refusal: SheepError): void {
    this.#refusal ??= refusal;
    for (const lease of this.#leases) lease.abort(refusal);
    this.#leases.clear();
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#watchers]) wake();
  }

  #nextChange(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#watchers.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#watchers.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }
}

/** How many bytes the change takes. */
function checkLimits(keys: readonly KeyChange[]): number {
  assert(new Set(keys.map(({ key }) => key)).size === keys.length, 'a key is changed once a swap');
  const bytes = encodedBytes(keys);
  const longest = Math.max(0, ...keys.map(({ key }) => new TextEncoder().encode(key).length));
  assert(
    keys.every(({ key }) => key !== '' && key.isWellFormed()),
    'a key is Unicode text',
  );
  if (keys.length > SWAP_KEYS_MAX || bytes > SWAP_BYTES_MAX || longest > KEY_BYTES_MAX) {
    throw new SheepError('ERR_LIMIT', 'a swap is too large for the coordinator', {
      keys: keys.length,
      bytes,
      longestKeyBytes: longest,
    });
  }
  return bytes;
}
