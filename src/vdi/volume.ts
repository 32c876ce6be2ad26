import { SheepError } from '../base/errors.ts';
import type { ObjectName, Vid } from '../base/ids.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import { allSettled, forEachAtMost } from '../base/parallel.ts';
import { BLOCK_BYTES, MiB, roundDown, roundUp } from '../base/units.ts';
import type {
  BlockDevice,
  DeviceInfo,
  Extent,
  FlushCall,
  ZeroCall,
} from '../contracts/block-device.ts';
import type { Call, Completion, WriteCall } from '../contracts/call.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import { DataNames } from './data-names.ts';
import { ExtentRuns } from './extents.ts';
import { objectCount, type Piece, pieces } from './geometry.ts';
import type { Inode } from './inode.ts';
import { deviceInfo, type VolumeRecord } from './record.ts';

/** Objects freed by one step of a trim: each step costs one flush of the inode. */
const TRIM_BATCH = 256;
/** A flush of a range that spans more objects is a flush of everything. */
const RANGE_FLUSH_OBJECTS = 16;
/** Objects whose blocks one call of `extents` looks at: each may have to be opened. */
const EXTENT_OBJECTS = 64;
const PREFETCH_BYTES = 64 * MiB;
const PREFETCH_STEP_BYTES = MiB;

/**
 * A VDI as a flat disk. A request to objects that exist goes straight to the store; the first write
 * to an index and the trim of a whole object go through a gate of that index, because both change
 * the inode: data first, the entry after, then the answer.
 */
export class Volume implements BlockDevice {
  readonly info: DeviceInfo;
  readonly record: VolumeRecord;
  readonly #store: ObjectStore;
  readonly #inode: Inode;
  readonly #vid: Vid;
  readonly #names: DataNames;
  readonly #objectBytes: number;
  readonly #plain: ObjectWriteCall;
  readonly #durable: ObjectWriteCall;
  readonly #flushFollows: ObjectWriteCall;
  readonly #gates = new KeyedGates<number>();
  /** How often the inode was changed, and how much of that is stable (rule 27). */
  #changes = 0;
  #stableChanges = 0;

  constructor(store: ObjectStore, record: VolumeRecord, inode: Inode, plain: ObjectWriteCall) {
    this.record = record;
    this.info = deviceInfo(record);
    this.#store = store;
    this.#inode = inode;
    this.#vid = record.vid;
    this.#names = new DataNames(record.family);
    this.#objectBytes = record.objectBytes;
    this.#plain = plain;
    this.#durable = Object.freeze({ ...plain, durable: true });
    this.#flushFollows = Object.freeze({ ...plain, flushFollows: true });
  }

  read(at: number, into: Uint8Array, _call?: Call): Completion {
    const index = Math.floor(at / this.#objectBytes);
    const inObject = at - index * this.#objectBytes;
    if (inObject + into.length <= this.#objectBytes) return this.#read(index, inObject, into);
    return this.#eachPiece(at, into.length, (piece) =>
      this.#read(piece.index, piece.at, into.subarray(piece.offset, piece.offset + piece.length)),
    );
  }

  #read(index: number, at: number, into: Uint8Array): Completion {
    const owner = this.#inode.ownerNow(index);
    if (owner === undefined || this.#gates.find(index) !== undefined) {
      return this.#gates.pass(index, false, async () => {
        const found = await this.#inode.owner(index);
        if (found === 0) into.fill(0);
        else await this.#store.read(this.#name(found, index), at, into);
      });
    }
    if (owner !== 0) return this.#store.read(this.#name(owner, index), at, into);
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
    const owner = this.#inode.ownerNow(index);
    if (owner === this.#vid && this.#gates.find(index) === undefined) {
      if (!call.durable) {
        const plain = call.flushFollows === true ? this.#flushFollows : this.#plain;
        return this.#store.write(this.#name(owner, index), at, from, plain);
      }
      if (this.#changes === this.#stableChanges) {
        return this.#store.write(this.#name(owner, index), at, from, this.#durable);
      }
    }
    return this.#writeGated(index, at, from, call.durable);
  }

  async #writeGated(index: number, at: number, from: Uint8Array, durable: boolean): Promise<void> {
    await this.#gates.pass(index, true, async () => {
      if ((await this.#inode.owner(index)) === this.#vid) {
        await this.#store.write(this.#name(this.#vid, index), at, from, this.#plain);
        return;
      }
      const create = this.#creating();
      await this.#store.write(this.#name(this.#vid, index), at, from, create);
      await this.#own(index);
    });
    if (durable) await this.flush();
  }

  async flush(call?: FlushCall): Promise<void> {
    const names = this.#namesOf(call?.range);
    if (names !== undefined) {
      await this.#store.flush(this.#vid, names);
      return;
    }
    const changes = this.#changes;
    await this.#store.flush(this.#vid);
    this.#stableChanges = Math.max(this.#stableChanges, changes);
  }

  /** The objects to flush for a range; undefined where a flush of everything is due. */
  #namesOf(range: FlushCall['range']): ObjectName[] | undefined {
    if (range === undefined || this.#changes !== this.#stableChanges) return undefined;
    if (range.length > (RANGE_FLUSH_OBJECTS - 1) * this.#objectBytes) return undefined;
    return [...pieces(range.at, range.length, this.#objectBytes)].map(({ index }) =>
      this.#name(this.#vid, index),
    );
  }

  /** Whole blocks read as zeroes afterwards and give their space back; parts of blocks stay. */
  async trim(at: number, length: number, call: WriteCall): Promise<void> {
    const from = roundUp(at, BLOCK_BYTES);
    const end = roundDown(at + length, BLOCK_BYTES);
    if (from < end) await this.#clear(from, end - from);
    if (call.durable) await this.flush();
  }

  async writeZeroes(at: number, length: number, call: ZeroCall): Promise<void> {
    if (call.fastOnly && (at % BLOCK_BYTES !== 0 || (at + length) % BLOCK_BYTES !== 0)) {
      throw new SheepError('ERR_NOT_FAST', 'parts of blocks have to be read and written', { at });
    }
    if (call.keepAllocated) await this.#reserveZeroes(at, length);
    else await this.#clear(at, length);
    if (call.durable) await this.flush();
  }

  /** Whole objects leave the inode; in others the range becomes a hole. */
  async #clear(at: number, length: number): Promise<void> {
    const whole: number[] = [];
    const end = at + length;
    let index = Math.floor(at / this.#objectBytes);
    const endIndex = objectCount(end, this.#objectBytes);
    for (;;) {
      index = this.#inode.skipAbsent(index, endIndex);
      if (index === endIndex) break;
      const start = index * this.#objectBytes;
      const from = Math.max(at, start) - start;
      const to = Math.min(end, start + this.#objectBytes) - start;
      const last = Math.min(this.#objectBytes, this.info.sizeBytes - start);
      if (from > 0 || to < last) await this.#clearPart({ index, at: from, length: to - from });
      else if (this.#inode.ownerNow(index) !== 0) whole.push(index);
      if (whole.length === TRIM_BATCH) await this.#free(whole.splice(0));
      index += 1;
    }
    if (whole.length > 0) await this.#free(whole);
  }

  #clearPart({ index, at, length }: Pick<Piece, 'index' | 'at' | 'length'>): Promise<void> {
    return this.#gates.pass(index, true, async () => {
      if ((await this.#inode.owner(index)) === 0) return;
      const call = { ...this.#plain, keepAllocated: false };
      await this.#store.zero(this.#name(this.#vid, index), at, length, call);
    });
  }

  /** The entries stable first, the objects after. */
  #free(indexes: readonly number[]): Promise<void> {
    return this.#gates.passAll(indexes, async () => {
      const owners = await Promise.all(indexes.map((index) => this.#inode.owner(index)));
      const owned = indexes.filter((_, place) => owners[place] === this.#vid);
      if (owned.length === 0) return;
      const names = owned.map((index) => this.#name(this.#vid, index));
      await this.#store.announce(names, this.#objectBytes, this.#plain);
      const nodes = await this.#setOwners(owned, 0);
      await this.#store.flush(this.#vid, nodes);
      await allSettled(names.map(async (name) => this.#store.remove(name, this.#plain)));
    });
  }

  async #reserveZeroes(at: number, length: number): Promise<void> {
    await forEachAtMost(8, pieces(at, length, this.#objectBytes), (piece) =>
      this.#gates.pass(piece.index, true, async () => {
        const exists = (await this.#inode.owner(piece.index)) === this.#vid;
        const call = { ...(exists ? this.#plain : this.#creating()), keepAllocated: true };
        await this.#store.zero(this.#name(this.#vid, piece.index), piece.at, piece.length, call);
        if (!exists) await this.#own(piece.index);
      }),
    );
  }

  #creating(): ObjectWriteCall {
    return { ...this.#plain, createBytes: this.#objectBytes, unowned: true };
  }

  /** The entry of an object that was just made; without one it is nobody's, and goes again. */
  async #own(index: number): Promise<void> {
    try {
      await this.#setOwners([index], this.#vid);
      this.#store.owned(this.#name(this.#vid, index));
    } catch (error) {
      await this.#dropUnowned(index).catch(() => undefined); // the first error is the one to be told
      throw error;
    }
  }

  async #dropUnowned(index: number): Promise<void> {
    if ((await this.#inode.owner(index)) === this.#vid) return;
    await this.#store.remove(this.#name(this.#vid, index), this.#plain);
  }

  async #setOwners(indexes: readonly number[], owner: Vid): Promise<ObjectName[]> {
    try {
      return await this.#inode.setOwners(indexes, owner);
    } finally {
      this.#changes += 1; // some of it, if not all
    }
  }

  async extents(at: number, length: number, countMax: number): Promise<Extent[]> {
    const runs = new ExtentRuns(countMax);
    const end = at + length;
    let asked = 0;
    for (let position = at; position < end && !runs.full; ) {
      const index = Math.floor(position / this.#objectBytes);
      const start = index * this.#objectBytes;
      const absentTo = this.#inode.skipAbsent(index, objectCount(end, this.#objectBytes));
      const owner = absentTo > index ? 0 : await this.#inode.owner(index);
      const to = Math.min(end, Math.max(absentTo, index + 1) * this.#objectBytes);
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

  /** Known to be zeroes without a look at any object: nobody owns them, or is about to. */
  zeroNow(at: number, length: number): boolean {
    const end = objectCount(at + length, this.#objectBytes);
    for (let index = Math.floor(at / this.#objectBytes); index < end; index += 1) {
      if (this.#inode.ownerNow(index) !== 0 || this.#gates.find(index) !== undefined) return false;
    }
    return true;
  }

  /** Reads the beginning of the range, so that it lies in the page cache. */
  async prefetch(at: number, length: number): Promise<void> {
    const scratch = new Uint8Array(Math.min(length, PREFETCH_STEP_BYTES));
    const end = at + Math.min(length, PREFETCH_BYTES);
    for (let position = at; position < end; position += scratch.length) {
      await this.read(position, scratch.subarray(0, Math.min(scratch.length, end - position)));
    }
  }

  /** Objects that hold data: a measure of space, in whole objects. */
  allocatedObjects(): Promise<number> {
    return this.#inode.countOwned();
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
