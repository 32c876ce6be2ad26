import { SheepError } from '../base/errors.ts';
import type { ObjectName, Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled } from '../base/parallel.ts';
import { BLOCK_BYTES, KiB, roundDown, roundUp } from '../base/units.ts';
import type {
  BlockDevice,
  Described,
  DeviceInfo,
  Extent,
  FlushCall,
  ZeroCall,
} from '../contracts/block-device.ts';
import type { Call, Completion, ReadCall, WriteCall } from '../contracts/call.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import { DataNames } from './data-names.ts';
import { Descriptions } from './descriptions.ts';
import { deviceInfo } from './device-info.ts';
import { ExtentRuns } from './extents.ts';
import type { Frozen } from './freezing.ts';
import { objectCount, type Piece, pieces } from './geometry.ts';
import type { Inode } from './inode.ts';
import type { Entries } from './inode-nodes.ts';
import { ownerIn } from './levels.ts';
import { ObjectChanges } from './object-changes.ts';
import { plainCall, type VolumeRecord } from './record.ts';

/** While writers are slowed down for a snapshot: each finds a fraction of what the one before did. */
const FLUSHES_BEFORE_PAUSE = 3;
/** A flush of a range that spans more objects is a flush of everything. */
const RANGE_FLUSH_OBJECTS = 16;
/** Objects whose blocks one call of `extents` looks at: 0.1 ms each, or a file to be opened. */
const EXTENT_OBJECTS = 16;
const PREFETCH_STEP_BYTES = 256 * KiB;

/** Who knows the parents of a record, from the nearest to the root of its family. */
export interface Ancestry {
  ancestors(record: VolumeRecord): Promise<readonly VolumeRecord[]>;
}

export interface VolumeParts {
  readonly store: ObjectStore;
  readonly record: VolumeRecord;
  /** Not given: it has none, as one that was made with `create`. */
  readonly ancestry?: Ancestry;
}

/**
 * A VDI as a flat disk. A request to objects that exist goes straight to the store; the first write
 * to an index and the trim of a whole object go through a gate of that index, because both change
 * the inode: see ObjectChanges.
 */
export class Volume implements BlockDevice {
  readonly #store: ObjectStore;
  readonly #inode: Inode;
  readonly #ancestry: Ancestry | undefined;
  readonly #descriptions: Descriptions;
  readonly #names: DataNames;
  readonly #objectBytes: number;
  readonly #gates = new KeyedGates<number>();
  readonly #changes: ObjectChanges;
  /** How much of what was changed in the inode is stable (rule 27). */
  #stableChanges = 0;
  #record: VolumeRecord;
  /** As far as this volume has heard: some may have been deleted. */
  #ancestors: readonly VolumeRecord[];
  #info: DeviceInfo;
  #vid: Vid;
  #plain: ObjectWriteCall;
  #durable: ObjectWriteCall;
  #flushFollows: ObjectWriteCall;

  /** @param ancestors  those of the record now */
  constructor(parts: VolumeParts, inode: Inode, ancestors: readonly VolumeRecord[]) {
    const { store, record } = parts;
    this.#store = store;
    this.#inode = inode;
    this.#ancestry = parts.ancestry;
    this.#names = new DataNames(record.family);
    this.#descriptions = new Descriptions(store, inode, this.#names);
    this.#objectBytes = record.objectBytes;
    this.#record = record;
    this.#ancestors = ancestors;
    this.#info = deviceInfo(record, ancestors);
    this.#vid = record.vid;
    this.#plain = plainCall(record);
    this.#durable = Object.freeze({ ...this.#plain, durable: true });
    this.#flushFollows = Object.freeze({ ...this.#plain, flushFollows: true });
    const { objectBytes } = record;
    const shared = { store, inode, names: this.#names, gates: this.#gates, objectBytes };
    this.#changes = new ObjectChanges(shared, { vid: this.#vid, plain: this.#plain });
  }

  /** Changes with a snapshot and with the size: whoever tells others of it keeps what he told. */
  get info(): DeviceInfo {
    return this.#info;
  }
  get record(): VolumeRecord {
    return this.#record;
  }

  read(at: number, into: Uint8Array, call?: ReadCall): Completion {
    const index = Math.floor(at / this.#objectBytes);
    const inObject = at - index * this.#objectBytes;
    if (inObject + into.length <= this.#objectBytes) return this.#read(index, inObject, into, call);
    return this.#eachPiece(at, into.length, (piece) => {
      const part = into.subarray(piece.offset, piece.offset + piece.length);
      return this.#read(piece.index, piece.at, part, call);
    });
  }

  #read(index: number, at: number, into: Uint8Array, call?: ReadCall): Completion {
    const owner = this.#inode.ownerNow(index);
    if (owner === undefined || this.#gates.find(index) !== undefined) {
      return this.#gates.pass(index, false, async () => {
        const found = await this.#inode.owner(index);
        if (found === 0) into.fill(0);
        else await this.#store.read(this.#name(found, index), at, into, call);
      });
    }
    if (owner !== 0) return this.#store.read(this.#name(owner, index), at, into, call);
    into.fill(0);
  }

  write(at: number, from: Uint8Array, call: WriteCall): Completion {
    const index = Math.floor(at / this.#objectBytes);
    const inObject = at - index * this.#objectBytes;
    if (inObject + from.length <= this.#objectBytes) {
      return this.#write(index, inObject, from, call);
    }
    return this.#eachPiece(at, from.length, (piece) => {
      const part = from.subarray(piece.offset, piece.offset + piece.length);
      return this.#write(piece.index, piece.at, part, call);
    });
  }

  #write(index: number, at: number, from: Uint8Array, call: WriteCall): Completion {
    const { writers } = this.#changes;
    const owner = this.#inode.ownerNow(index);
    if (owner === this.#vid && this.#gates.find(index) === undefined && writers.isOpen) {
      if (!call.durable) {
        const plain = call.flushFollows === true ? this.#flushFollows : this.#plain;
        return writers.track(this.#store.write(this.#name(owner, index), at, from, plain));
      }
      if (this.#changes.inodeChanges === this.#stableChanges) {
        return writers.track(this.#store.write(this.#name(owner, index), at, from, this.#durable));
      }
    }
    return this.#writeChanging(index, at, from, call.durable);
  }

  async #writeChanging(index: number, at: number, from: Uint8Array, durable: boolean) {
    await this.#changes.write(index, at, from);
    if (durable) await this.flush();
  }

  async flush(call?: FlushCall): Promise<void> {
    const names = this.#namesOf(call?.range);
    if (names !== undefined) {
      await this.#store.flush(this.#vid, names);
      return;
    }
    const changes = this.#changes.inodeChanges;
    await this.#store.flush(this.#vid);
    this.#stableChanges = Math.max(this.#stableChanges, changes);
  }

  /** The objects to flush for a range; undefined where a flush of everything is due. */
  #namesOf(range: FlushCall['range']): ObjectName[] | undefined {
    if (range === undefined || this.#changes.inodeChanges !== this.#stableChanges) return undefined;
    if (range.length > (RANGE_FLUSH_OBJECTS - 1) * this.#objectBytes) return undefined;
    return [...pieces(range.at, range.length, this.#objectBytes)].map(({ index }) =>
      this.#name(this.#vid, index),
    );
  }

  /** Whole blocks read as zeroes afterwards and give their space back; parts of blocks stay. */
  async trim(at: number, length: number, call: WriteCall): Promise<void> {
    const from = roundUp(at, BLOCK_BYTES);
    const end = roundDown(at + length, BLOCK_BYTES);
    if (from < end) await this.#changes.clear(from, end - from, () => this.info.sizeBytes, call);
    if (call.durable) await this.flush();
  }

  async writeZeroes(at: number, length: number, call: ZeroCall): Promise<void> {
    if (call.fastOnly && (at % BLOCK_BYTES !== 0 || (at + length) % BLOCK_BYTES !== 0)) {
      throw new SheepError('ERR_NOT_FAST', 'parts of blocks have to be read and written', { at });
    }
    if (call.keepAllocated) await this.#changes.reserveZeroes(at, length, call);
    else await this.#changes.clear(at, length, () => this.info.sizeBytes, call);
    if (call.durable) await this.flush();
  }

  async extents(at: number, length: number, countMax: number, call?: Call): Promise<Extent[]> {
    const runs = new ExtentRuns(countMax);
    const end = at + length;
    let asked = 0;
    for (let position = at; position < end && !runs.full; ) {
      call?.signal?.throwIfAborted();
      const index = Math.floor(position / this.#objectBytes);
      const start = index * this.#objectBytes;
      const holeTo = this.#inode.skipHoles(index, objectCount(end, this.#objectBytes));
      const owner = holeTo > index ? 0 : await this.#inode.owner(index);
      const to = Math.min(end, Math.max(holeTo, index + 1) * this.#objectBytes);
      if (owner === 0) runs.add(to - position, 'hole');
      else if (asked === EXTENT_OBJECTS && runs.some) break;
      else {
        asked += 1;
        const name = this.#name(owner, index);
        const found = await this.#store.extents(name, position - start, to - position);
        for (const { length: run, content } of found) runs.add(run, content);
      }
      position = to;
    }
    return runs.done();
  }

  async describe(
    context: string,
    at: number,
    length: number,
    countMax: number,
    call?: Call,
  ): Promise<Described[]> {
    const record = this.#record;
    const ancestry = async () => (await this.#ancestry?.ancestors(record)) ?? [];
    const range = { ...call, at, length, countMax };
    return this.#descriptions.describe(context, record, ancestry, range);
  }

  /** Known to be zeroes without a look at any object: nobody owns them, or is about to. */
  zeroNow(at: number, length: number): boolean {
    const end = objectCount(at + length, this.#objectBytes);
    for (let index = Math.floor(at / this.#objectBytes); index < end; index += 1) {
      if (this.#inode.ownerNow(index) !== 0 || this.#gates.find(index) !== undefined) return false;
    }
    return true;
  }

  /** Reads what there is of the range, so that it lies in the page cache. */
  async prefetch(at: number, length: number, call?: Call): Promise<void> {
    const scratch = new Uint8Array(Math.min(length, PREFETCH_STEP_BYTES));
    const end = at + length;
    for (let position = at; position < end; position += scratch.length) {
      call?.signal?.throwIfAborted();
      const step = Math.min(scratch.length, end - position);
      if (!this.zeroNow(position, step)) await this.read(position, scratch.subarray(0, step));
    }
  }

  /** Objects that hold data, its own and all that it reads: a measure of space. */
  allocatedObjects(): Promise<{ own: number; all: number }> {
    return this.#inode.countOwned(ownerIn(this.#record, this.#ancestors));
  }

  /**
   * A snapshot: what was written so far stays behind under the vid it has, and the volume goes on as
   * a child of it. Reads never wait; what changes the disk waits from the last flush to the end. If
   * anything fails before the commit, nothing has happened.
   * @param prepare  makes the child's inode with this root: early, and again if that has changed
   * @param commit   says who is who from now on
   * @param pace     what each change waits before that, so that little is left for the last flush
   * @param together waits for others that freeze too: when the bulk is stable, when little is left,
   *                 and when nothing changes any more
   */
  async freeze(
    prepare: (root: Entries) => Promise<void>,
    commit: () => Promise<Frozen>,
    pace: () => Promise<void> = async () => undefined,
    together: () => Promise<void> = async () => undefined,
  ): Promise<void> {
    const { frees, writers } = this.#changes;
    await frees.shut();
    try {
      await this.flush();
      const begun = this.#inode.rootNow();
      await prepare(begun);
      await together();
      writers.slow(pace);
      for (let round = 0; round < FLUSHES_BEFORE_PAUSE; round += 1) await this.flush();
      await together();
      await writers.shut();
      const root = await this.#inode.rootEntries();
      await this.flush();
      if (root.some((owner, leaf) => owner !== begun[leaf])) await prepare(root);
      await together();
      this.#become(await commit().catch((error) => this.#stopUnlessUndone(error)));
    } finally {
      writers.open();
      frees.open();
    }
  }

  #become({ frozen, working }: Frozen): void {
    this.#record = working;
    this.#ancestors = [frozen, ...this.#ancestors];
    this.#info = deviceInfo(working, this.#ancestors);
    this.#vid = working.vid;
    this.#plain = plainCall(working);
    this.#durable = Object.freeze({ ...this.#plain, durable: true });
    this.#flushFollows = Object.freeze({ ...this.#plain, flushFollows: true });
    this.#inode.become(this.#vid, this.#plain);
    this.#changes.become({ vid: this.#vid, plain: this.#plain });
  }

  /** If nobody knows whether it is the child now, nothing may be written as either. */
  #stopUnlessUndone(error: unknown): never {
    const undone = error instanceof SheepError && error.code !== 'ERR_IO';
    if (!undone) this.#changes.writers.refuse(error as Error);
    throw error;
  }

  /** After a shrink: what the disk held behind its end, up to its size before, is freed, stable. */
  async clearBehindEnd(formerBytes: number): Promise<void> {
    const { sizeBytes } = this.#info;
    await this.#changes.clear(sizeBytes, formerBytes - sizeBytes, () => formerBytes);
    await this.flush();
  }

  /** The disk has another size: grown, or shrunk and cleared behind its new end. */
  resized(record: VolumeRecord): void {
    this.#info = deviceInfo(record, this.#ancestors);
    this.#record = record;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  #name(owner: Vid, index: number): ObjectName {
    return this.#names.of(owner, index);
  }

  /** Runs `work` for each object's piece, in order; waits only if one of them has to. */
  #eachPiece(at: number, length: number, work: (piece: Piece) => Completion): Completion {
    const waiting: Promise<void>[] = [];
    try {
      for (const piece of pieces(at, length, this.#objectBytes)) {
        const completion = work(piece);
        if (completion !== undefined) waiting.push(completion);
      }
    } catch (error) {
      // What has begun still uses the caller's buffer.
      if (waiting.length === 0) throw error;
      waiting.push(Promise.reject(error));
    }
    return waiting.length === 0 ? undefined : allSettled(waiting);
  }
}
