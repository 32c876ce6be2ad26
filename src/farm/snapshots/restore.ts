import { assert } from '../../base/assert.ts';
import { SheepError } from '../../base/errors.ts';
import { allSettled } from '../../base/parallel.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import { SliceReader, type WantedSlice } from './slice-reader.ts';
import type { SnapshotStore } from './store.ts';
import { isZeroName, nameAt, sameName, trunkShape } from './trunk-format.ts';
import { differingLeaves, type Trunk } from './trunk-reader.ts';

/** What of a disk is needed to write it. */
export type RestoreTarget = Pick<BlockDevice, 'info' | 'write' | 'writeZeroes'>;

export interface RestoreSource extends Call {
  readonly store: SnapshotStore;
  /** Name of the disk's trunk, and what its snap says of it. */
  readonly root: Uint8Array;
  readonly objectBytes: number;
  readonly sizeBytes: number;
  /**
   * What is on the device already, in the same store; nothing is done where that is the same.
   * Absent: it reads as zeroes.
   */
  readonly present?: { readonly root: Uint8Array; readonly sizeBytes: number };
}

export interface RestoreOptions extends RestoreSource {
  /** At least as large as the disk was. */
  readonly device: RestoreTarget;
  /** Called for each batch, in no order. */
  readonly progress?: (counts: RestoreCounts) => void;
}

/** So far, in bytes of the disk. */
export interface RestoreCounts {
  /** Up to here the disk was looked at. */
  at: number;
  writtenBytes: number;
  zeroedBytes: number;
}

/** A run of the disk: with content, or zeroes where others stand. */
interface Run {
  readonly first: number;
  end: number;
  readonly zero: boolean;
}

interface Batch {
  readonly wanted: WantedSlice[];
  readonly runs: Run[];
}

/**
 * Puts a disk of the store onto a device: what is zeroes there already stays a hole. Every slice is
 * proven before it is written. Settles when it is written, not when it is stable: flush the device.
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` with the bytes of the disk that are lost
 */
export async function restoreDisk(options: RestoreOptions): Promise<Readonly<RestoreCounts>> {
  const { device, sizeBytes } = options;
  assert(device.info.sizeBytes >= sizeBytes, 'the disk fits the device');
  const counts: RestoreCounts = { at: 0, writtenBytes: 0, zeroedBytes: 0 };
  const lanes = new RestoreLanes(options, counts);
  try {
    for await (const { slice, name } of differingSlices(options)) await lanes.add(slice, name);
    await lanes.finish();
  } finally {
    await lanes.settle();
  }
  counts.at = sizeBytes;
  return counts;
}

/**
 * What a restore would write and zero, in bytes of the disk: only trees are read.
 * @throws SheepError as `restoreDisk`, of trees
 */
export async function planRestore(options: RestoreSource): Promise<Readonly<RestoreCounts>> {
  const { store, sizeBytes } = options;
  const { sliceBytes } = store.identity;
  const counts: RestoreCounts = { at: sizeBytes, writtenBytes: 0, zeroedBytes: 0 };
  for await (const { slice, name } of differingSlices(options)) {
    const bytes = Math.min(sliceBytes, sizeBytes - slice * sliceBytes);
    counts[isZeroName(name) ? 'zeroedBytes' : 'writtenBytes'] += bytes;
  }
  return counts;
}

/** Slices that are not as on the device, ascending; `name` is lent until the next one. */
async function* differingSlices({
  store,
  root,
  sizeBytes,
  objectBytes,
  present,
  signal,
}: RestoreSource): AsyncGenerator<{ readonly slice: number; readonly name: Uint8Array }> {
  const { sliceBytes } = store.identity;
  const trunkOf = (name: Uint8Array, size: number): Trunk => {
    return { root: name, shape: trunkShape(size, objectBytes, sliceBytes) };
  };
  const trunk = trunkOf(root, sizeBytes);
  const before = present && trunkOf(present.root, present.sizeBytes);
  const { leafSlices } = trunk.shape;
  for await (const { index, names, before: old } of differingLeaves(store, trunk, before)) {
    signal?.throwIfAborted();
    const first = index * leafSlices;
    for (let place = 0; place < leafSlices; place += 1) {
      if ((first + place) * sliceBytes >= sizeBytes) break;
      const name = nameAt(names, place);
      if (!sameName(name, nameAt(old, place))) yield { slice: first + place, name };
    }
  }
}

/** Batches of slices, several under way at once, each with a reader and memory of its own. */
class RestoreLanes {
  readonly #options: RestoreOptions;
  readonly #counts: RestoreCounts;
  readonly #sliceBytes: number;
  readonly #batchSlices: number;
  readonly #lanesMax: number;
  readonly #underWay = new Set<Promise<void>>();
  readonly #readers: SliceReader[] = [];
  /** Those that nobody uses just now. */
  readonly #spare: SliceReader[] = [];
  #batch: Batch = { wanted: [], runs: [] };
  #failure: unknown;

  constructor(options: RestoreOptions, counts: RestoreCounts) {
    const { identity, limits, options: storeOptions } = options.store;
    this.#options = options;
    this.#counts = counts;
    this.#sliceBytes = identity.sliceBytes;
    this.#batchSlices = options.store.batchSlices;
    this.#lanesMax = storeOptions.pool.threads * 2 + limits.batchesReading;
  }

  async add(slice: number, name: Uint8Array): Promise<void> {
    const zero = isZeroName(name);
    const last = this.#batch.runs.at(-1);
    if (last?.end === slice && last.zero === zero) last.end += 1;
    else this.#batch.runs.push({ first: slice, end: slice + 1, zero });
    const { wanted, runs } = this.#batch;
    if (!zero) wanted.push({ name: name.slice(), to: wanted.length * this.#sliceBytes });
    if (wanted.length === this.#batchSlices || runs.length > RUNS_MAX) await this.#start();
  }

  async finish(): Promise<void> {
    await this.#start();
    await Promise.all(this.#underWay);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async settle(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    for (const reader of this.#readers) reader[Symbol.dispose]();
  }

  async #start(): Promise<void> {
    const batch = this.#batch;
    this.#batch = { wanted: [], runs: [] };
    while (this.#underWay.size >= this.#lanesMax) await Promise.race(this.#underWay);
    if (this.#failure !== undefined) throw this.#failure;
    if (batch.runs.length === 0) return;
    const working = (async () => {
      try {
        await this.#restore(batch);
      } catch (error) {
        this.#failure ??= error;
      }
    })();
    this.#underWay.add(working);
    const done = () => void this.#underWay.delete(working);
    working.then(done, done);
  }

  async #restore({ wanted, runs }: Batch): Promise<void> {
    const reader = this.#spare.pop() ?? this.#newReader();
    const lost = await reader.read(wanted);
    const [first] = lost;
    if (first !== undefined) throw this.#lostSlice(runs, first.wanted.to, first.error);
    await allSettled(this.#effects(runs, reader.bytes));
    this.#spare.push(reader);
    this.#counts.at = Math.max(this.#counts.at, (runs.at(-1)?.first ?? 0) * this.#sliceBytes);
    this.#options.progress?.(this.#counts);
  }

  #newReader(): SliceReader {
    const reader = new SliceReader(this.#options.store);
    this.#readers.push(reader);
    return reader;
  }

  *#effects(runs: readonly Run[], bytes: Uint8Array): Generator<Promise<void>> {
    let from = 0;
    for (const { first, end, zero } of runs) {
      const at = first * this.#sliceBytes;
      const length = Math.min(end * this.#sliceBytes, this.#options.sizeBytes) - at;
      if (zero) {
        yield this.#zero(at, length);
      } else {
        yield this.#write(at, bytes.subarray(from, from + length));
        from += (end - first) * this.#sliceBytes;
      }
    }
  }

  async #write(at: number, from: Uint8Array): Promise<void> {
    await this.#options.device.write(at, from, { durable: false });
    this.#counts.writtenBytes += from.length;
  }

  async #zero(at: number, length: number): Promise<void> {
    const call = { durable: false, keepAllocated: false, fastOnly: false };
    await this.#options.device.writeZeroes(at, length, call);
    this.#counts.zeroedBytes += length;
  }

  /** @param to  where in memory the slice was to stand */
  #lostSlice(runs: readonly Run[], to: number, cause: SheepError): SheepError {
    let place = to / this.#sliceBytes;
    const run = runs.find(({ first, end, zero }) => {
      if (zero) return false;
      if (place < end - first) return true;
      place -= end - first;
      return false;
    });
    assert(run !== undefined, 'a slice that is wanted has its place on the disk');
    const at = (run.first + place) * this.#sliceBytes;
    const until = Math.min(at + this.#sliceBytes, this.#options.sizeBytes);
    const message = `bytes ${at} to ${until - 1} of the disk are lost: ${cause.message}`;
    return new SheepError(cause.code, message, { ...cause.facts, at, length: until - at }, cause);
  }
}

/** However they are scattered. */
const RUNS_MAX = 1024;
