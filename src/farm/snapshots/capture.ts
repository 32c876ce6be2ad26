import { NAME_BYTES } from '../../base/content.ts';
import { allSettled } from '../../base/parallel.ts';
import type { Call } from '../../contracts/call.ts';
import { LeafAssembler } from './leaf-assembler.ts';
import { type ByteRange, type CaptureSource, type SliceRun, sliceRuns } from './slice-runs.ts';
import type { SnapshotStore } from './store.ts';
import { type TrunkShape, trunkShape } from './trunk-format.ts';
import { TrunkReader } from './trunk-reader.ts';
import type { Stored, StoreWriter } from './writer.ts';

/** What was there of this disk before, in the same store. */
export interface CaptureBase {
  /** Name of its trunk. */
  readonly root: Uint8Array;
  readonly sizeBytes: number;
  /** What may differ from it, ascending. */
  readonly changed: AsyncIterable<ByteRange> | Iterable<ByteRange>;
}

export interface CaptureOptions extends Call {
  readonly store: SnapshotStore;
  readonly writer: StoreWriter;
  /** It does not change while it is read: a snapshot. */
  readonly device: CaptureSource;
  /** Of the disk's objects; of `base` the same. */
  readonly objectBytes: number;
  readonly base?: CaptureBase;
  /** Called for each batch. */
  readonly progress?: (counts: CaptureCounts) => void;
}

/** So far, in bytes of the disk but for `storedBytes`. */
export interface CaptureCounts {
  /** Up to where the disk is done. */
  at: number;
  readBytes: number;
  /** Of what was read: content that was not in the store, and content that was. The rest is zeroes. */
  newBytes: number;
  sharedBytes: number;
  /** What the new content takes on the medium. */
  storedBytes: number;
}

export interface Captured {
  /** Name of the disk's trunk: stable with the writer's next barrier. */
  readonly root: Uint8Array;
  readonly counts: Readonly<CaptureCounts>;
}

/** Slices that are read and stored together; they need not lie side by side. */
interface Batch {
  readonly bytes: Uint8Array;
  /** In the order of the disk; of zeroes nothing stands in `bytes`. */
  readonly runs: SliceRun[];
  slices: number;
}

/** However they are scattered over a disk of holes. */
const BATCH_RUNS_MAX = 1024;

/**
 * Stores what a disk holds, by its slices, and the tree that names them. What is in `base` and did
 * not change is neither read nor named anew. Memory follows the number of threads, not the disk.
 * @throws SheepError of the disk and of the store; the writer is of no use then
 */
export async function captureDisk(options: CaptureOptions): Promise<Captured> {
  const { store, writer, device, objectBytes, base, signal } = options;
  const { sliceBytes } = store.identity;
  const { sizeBytes } = device.info;
  const shape = trunkShape(sizeBytes, objectBytes, sliceBytes);
  const reader =
    base === undefined
      ? undefined
      : new TrunkReader(store, {
          root: base.root,
          shape: trunkShape(base.sizeBytes, objectBytes, sliceBytes),
        });
  const leaves = new LeafAssembler(writer, shape, reader);
  const counts = { at: 0, readBytes: 0, newBytes: 0, sharedBytes: 0, storedBytes: 0 };
  const line = new CaptureLine(options, shape, leaves, counts);
  const ranges = base === undefined ? [{ at: 0, length: sizeBytes }] : changesOf(base, sizeBytes);
  try {
    for await (const run of sliceRuns(device, sliceBytes, ranges, signal ? { signal } : {})) {
      signal?.throwIfAborted();
      await line.add(run);
    }
    await line.finish();
  } finally {
    await line.settle();
  }
  const root = await leaves.finish();
  return { root, counts };
}

/** With what a change of the size changed: the slice in which the smaller one ends, and all behind. */
async function* changesOf(base: CaptureBase, sizeBytes: number): AsyncGenerator<ByteRange> {
  const end = Math.min(base.sizeBytes, sizeBytes);
  for await (const { at, length } of base.changed) {
    if (base.sizeBytes === sizeBytes) yield { at, length };
    else if (at < end - 1) yield { at, length: Math.min(length, end - 1 - at) };
  }
  if (base.sizeBytes !== sizeBytes) yield { at: end - 1, length: sizeBytes - end + 1 };
}

const NOTHING: Stored = {
  names: new Uint8Array(0),
  newSlices: 0,
  sharedSlices: 0,
  storedBytes: 0,
};

/** Several batches under way at once; their names are used in the order of the disk. */
class CaptureLine {
  readonly #options: CaptureOptions;
  readonly #shape: TrunkShape;
  readonly #leaves: LeafAssembler;
  readonly #counts: CaptureCounts;
  readonly #batchSlices: number;
  readonly #batchesMax: number;
  readonly #underWay: { readonly batch: Batch; readonly stored: Promise<Stored> }[] = [];
  readonly #spare: Uint8Array[] = [];
  #filling: Batch | undefined;

  constructor(
    options: CaptureOptions,
    shape: TrunkShape,
    leaves: LeafAssembler,
    counts: CaptureCounts,
  ) {
    const { limits, options: storeOptions } = options.store;
    this.#options = options;
    this.#shape = shape;
    this.#leaves = leaves;
    this.#counts = counts;
    this.#batchSlices = options.store.batchSlices;
    // Some are read while others are worked on.
    this.#batchesMax = storeOptions.pool.threads * 2 + limits.batchesReading;
  }

  async add(run: SliceRun): Promise<void> {
    for (let first = run.first; first < run.end; ) {
      const batch = this.#filling ?? (await this.#begin());
      const room = run.zero ? Infinity : this.#batchSlices - batch.slices;
      const end = Math.min(run.end, first + room);
      batch.runs.push({ first, end, zero: run.zero });
      if (!run.zero) batch.slices += end - first;
      first = end;
      const isFull = batch.slices === this.#batchSlices || batch.runs.length === BATCH_RUNS_MAX;
      if (isFull) this.#start();
    }
  }

  async finish(): Promise<void> {
    this.#start();
    while (this.#underWay.length > 0) await this.#useFirst();
  }

  /** Waits for what is under way, whatever becomes of it, and gives the memory back. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#underWay.map(({ stored }) => stored));
    const { pool } = this.#options.store.options;
    for (const { batch } of this.#underWay) pool.giveBack(batch.bytes);
    for (const bytes of this.#spare) pool.giveBack(bytes);
    if (this.#filling !== undefined) pool.giveBack(this.#filling.bytes);
  }

  async #begin(): Promise<Batch> {
    while (this.#underWay.length >= this.#batchesMax) await this.#useFirst();
    const { pool } = this.#options.store.options;
    const length = this.#batchSlices * this.#shape.sliceBytes;
    this.#filling = { bytes: this.#spare.pop() ?? pool.memory(length), runs: [], slices: 0 };
    return this.#filling;
  }

  #start(): void {
    const batch = this.#filling;
    if (batch === undefined) return;
    this.#filling = undefined;
    const stored = this.#store(batch);
    stored.catch(() => undefined); // whoever uses it is told
    this.#underWay.push({ batch, stored });
  }

  async #store(batch: Batch): Promise<Stored> {
    const { sliceBytes, sizeBytes } = this.#shape;
    const bytes = batch.bytes.subarray(0, batch.slices * sliceBytes);
    const reads: Promise<void>[] = [];
    let to = 0;
    for (const { first, end, zero } of batch.runs) {
      if (zero) continue;
      const whole = bytes.subarray(to, to + (end - first) * sliceBytes);
      to += whole.length;
      const there = Math.min(whole.length, sizeBytes - first * sliceBytes);
      whole.fill(0, there); // the last slice of a disk goes on with zeroes
      reads.push(this.#read(first * sliceBytes, whole.subarray(0, there)));
    }
    await allSettled(reads);
    return bytes.length === 0 ? NOTHING : this.#options.writer.putSlices(bytes);
  }

  async #read(at: number, into: Uint8Array): Promise<void> {
    const { device, signal } = this.#options;
    await device.read(at, into, signal ? { signal } : {});
    this.#counts.readBytes += into.length;
  }

  async #useFirst(): Promise<void> {
    const first = this.#underWay[0];
    if (first === undefined) return;
    const stored = await first.stored;
    this.#underWay.shift();
    this.#spare.push(first.batch.bytes);
    await this.#use(first.batch, stored);
  }

  async #use(batch: Batch, stored: Stored): Promise<void> {
    const { sliceBytes } = this.#shape;
    let place = 0;
    for (const { first, end, zero } of batch.runs) {
      if (zero) {
        await this.#leaves.setZeroes(first, end);
        continue;
      }
      const after = place + end - first;
      await this.#leaves.setNames(
        first,
        stored.names.subarray(place * NAME_BYTES, after * NAME_BYTES),
      );
      place = after;
    }
    this.#counts.newBytes += stored.newSlices * sliceBytes;
    this.#counts.sharedBytes += stored.sharedSlices * sliceBytes;
    this.#counts.storedBytes += stored.storedBytes;
    this.#progress(batch.runs.at(-1)?.end ?? 0);
  }

  #progress(end: number): void {
    this.#counts.at = Math.min(end * this.#shape.sliceBytes, this.#shape.sizeBytes);
    this.#options.progress?.(this.#counts);
  }
}
