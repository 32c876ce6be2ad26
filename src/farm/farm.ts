import type { SheepError } from '../base/errors.ts';
import { type ObjectName, objectKey, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES, roundDown, roundUp } from '../base/units.ts';
import type { Call, Completion } from '../contracts/call.ts';
import type {
  ObjectExtent,
  ObjectStore,
  ObjectWriteCall,
  ObjectZeroCall,
} from '../contracts/object-store.ts';
import type { Identity } from './identity.ts';
import { LiveObjects, type ObjectParts } from './live-objects.ts';
import { dataAtOf, objectPath } from './object-format.ts';
import type { OpenObject } from './open-object.ts';
import type { Space } from './space.ts';

export interface FarmParts extends ObjectParts {
  readonly identity: Identity;
  readonly space: Space;
  /** One round of maintenance now, instead of when its time has come. */
  readonly maintain: () => Promise<void>;
  /** Everything stable, everything closed. */
  readonly close: () => Promise<void>;
}

const IN_BLOCK = BLOCK_BYTES - 1;

/**
 * The working directory: this node's live objects as sparse files. Most
 * operations are done when they return; what has to open a file, list an object or wait for the
 * disk goes behind the object's gate, in order.
 */
export class Farm implements ObjectStore {
  readonly #parts: FarmParts;
  readonly #objects: LiveObjects;
  #closing: Promise<void> | undefined;

  constructor(parts: FarmParts) {
    this.#parts = parts;
    this.#objects = new LiveObjects(parts);
  }

  get identity(): Identity {
    return this.#parts.identity;
  }

  read(name: ObjectName, at: number, into: Uint8Array, _call?: Call): Completion {
    const key = objectKey(name.kind, name.vid, name.index);
    const object = this.#parts.open.find(key);
    if (object !== undefined && (object.gate === undefined || object.gate.readable)) {
      if (object.readNow(at, into)) return;
    }
    return this.#parts.open.pass(key, false, async () => {
      const loaded = await this.#objects.load(name, key);
      if (!loaded.readNow(at, into)) await loaded.read(at, into);
    });
  }

  write(name: ObjectName, at: number, from: Uint8Array, call: ObjectWriteCall): Completion {
    const { open, flusher, space } = this.#parts;
    const key = objectKey(name.kind, name.vid, name.index);
    const object = open.find(key);
    if (
      object !== undefined &&
      object.gate === undefined &&
      object.listedUnder === call.stamp &&
      call.createBytes === undefined &&
      ((at | from.length) & IN_BLOCK) === 0 &&
      flusher.hasRoom &&
      space.takeNow(object.holesIn(at, from.length))
    ) {
      this.#writeBlocks(object, at, from);
      if (call.flushFollows === true) flusher.begin(object, at, from.length);
      return call.durable ? flusher.flush(name.vid, [object]) : undefined;
    }
    return this.#writeSlow(name, key, at, from, call);
  }

  async #writeSlow(
    name: ObjectName,
    key: number | string,
    at: number,
    from: Uint8Array,
    call: ObjectWriteCall,
  ): Promise<void> {
    const { open, flusher } = this.#parts;
    const written = await open.pass(key, true, async () => {
      await flusher.room();
      const object = await this.#forChange(name, key, at, from.length, call);
      await this.#writeAny(object, at, from);
      return object;
    });
    if (call.durable) await flusher.flush(name.vid, [written]);
  }

  zero(name: ObjectName, at: number, length: number, call: ObjectZeroCall): Promise<void> {
    const { open, flusher } = this.#parts;
    const key = objectKey(name.kind, name.vid, name.index);
    return open
      .pass(key, true, async () => {
        await flusher.room();
        const reserved = call.keepAllocated ? length : 0;
        const object = await this.#forChange(name, key, at, reserved, call);
        await this.#zeroAny(object, at, length, call.keepAllocated);
        return object;
      })
      .then((object) => (call.durable ? flusher.flush(name.vid, [object]) : undefined));
  }

  async announce(
    names: readonly ObjectName[],
    objectBytes: number,
    { stamp }: ObjectWriteCall,
  ): Promise<void> {
    const { open, activity } = this.#parts;
    await Promise.all(
      names.map((name) => {
        activity.announce(name);
        const object = open.find(objectKey(name.kind, name.vid, name.index));
        if (object?.listedUnder === stamp) return undefined;
        return activity.list(name, stamp, objectBytes, object?.life ?? 0n);
      }),
    );
  }

  owned(name: ObjectName): void {
    this.#parts.activity.owned(name);
  }

  unsettled(vid: Vid): readonly ObjectName[] {
    const names = [];
    for (const { name } of this.#parts.activity.values()) if (name.vid === vid) names.push(name);
    return names;
  }

  remove(name: ObjectName, call: ObjectWriteCall): Promise<void> {
    const { open, activity, flusher, disk, directory } = this.#parts;
    const key = objectKey(name.kind, name.vid, name.index);
    return open.pass(key, true, async () => {
      const object = open.find(key);
      const path = objectPath(directory, name);
      if (object === undefined && !(await disk.exists(path))) {
        activity.withdraw(name);
        return activity.absent(name);
      }
      if (object !== undefined) flusher.end(object);
      await activity.remove(name, call.stamp);
      activity.withdraw(name);
      if (object !== undefined) {
        while (object.homing !== undefined) await object.homing;
        flusher.forget(object);
        open.drop(object);
      }
      await disk.remove(path);
      activity.unlinked(name);
    });
  }

  flush(vid: Vid, only?: readonly ObjectName[], _call?: Call): Promise<void> {
    if (only === undefined) return this.#parts.flusher.flush(vid);
    const objects = only.flatMap(({ kind, vid: owner, index }) => {
      const object = this.#parts.open.find(objectKey(kind, owner, index));
      return object === undefined ? [] : [object];
    });
    return this.#parts.flusher.flush(vid, objects);
  }

  extents(
    name: ObjectName,
    at: number,
    length: number,
  ): readonly ObjectExtent[] | Promise<readonly ObjectExtent[]> {
    const key = objectKey(name.kind, name.vid, name.index);
    const object = this.#parts.open.find(key);
    if (object !== undefined && (object.gate === undefined || object.gate.readable)) {
      return object.extents(at, length);
    }
    return this.#parts.open.pass(key, false, async () =>
      (await this.#objects.load(name, key)).extents(at, length),
    );
  }

  sources(name: ObjectName): Uint32Array | Promise<Uint32Array> {
    const key = objectKey(name.kind, name.vid, name.index);
    const object = this.#parts.open.find(key);
    if (object !== undefined && (object.gate === undefined || object.gate.readable)) {
      return object.sources();
    }
    return this.#parts.open.pass(key, false, async () =>
      (await this.#objects.load(name, key)).sources(),
    );
  }

  /** Bytes of the file system, and how many of them are kept free. */
  space(): Promise<{ totalBytes: number; freeBytes: number; reservedBytes: number }> {
    return this.#parts.space.state();
  }

  /** Makes rested files stable and shortens the journal; done by itself every few seconds. */
  maintain(): Promise<void> {
    return this.#parts.maintain();
  }

  /** Why nothing can be made stable any more, if a sync failed: the daemon has to start anew. */
  get failure(): SheepError | undefined {
    return this.#parts.flusher.failure;
  }

  stats(): { openObjects: number; listedObjects: number; unsyncedBytes: number } {
    const { open, activity, flusher } = this.#parts;
    return {
      openObjects: open.size,
      listedObjects: activity.size,
      unsyncedBytes: flusher.unsyncedBytes,
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#parts.close();
    return this.#closing;
  }

  /** Whole blocks of an object that is listed and alone ours. */
  #writeBlocks(object: OpenObject, at: number, from: Uint8Array): void {
    try {
      this.#changed(object, object.writeNow(at, from));
    } catch (error) {
      this.#changed(object, object.brokenOff(at, from.length));
      throw error;
    }
  }

  async #zeroBlocks(object: OpenObject, at: number, length: number, keep: boolean): Promise<void> {
    try {
      this.#changed(object, await object.zero(at, length, keep));
    } catch (error) {
      this.#changed(object, object.brokenOff(at, length));
      throw error;
    }
  }

  #changed(object: OpenObject, newlyUnhomed: number): void {
    object.changedRound = this.#parts.activity.round;
    this.#parts.flusher.changed(object, newlyUnhomed);
  }

  /** Parts of blocks at both ends are read, patched and written whole. */
  async #writeAny(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    const end = at + from.length;
    const first = roundUp(at, BLOCK_BYTES);
    const last = roundDown(end, BLOCK_BYTES);
    if (at < first) await this.#patch(object, at, from.subarray(0, Math.min(first, end) - at));
    if (first < last) this.#writeBlocks(object, first, from.subarray(first - at, last - at));
    if (last < end && last >= first) await this.#patch(object, last, from.subarray(last - at));
  }

  async #patch(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    const block = roundDown(at, BLOCK_BYTES);
    const bytes = new Uint8Array(BLOCK_BYTES);
    if (!object.readNow(block, bytes)) await object.read(block, bytes);
    bytes.set(from, at - block);
    this.#writeBlocks(object, block, bytes);
  }

  async #zeroAny(
    object: OpenObject,
    at: number,
    length: number,
    keepAllocated: boolean,
  ): Promise<void> {
    const end = at + length;
    // Of a hole that is to be reserved a part cannot be: all of its block is.
    const reserves = (byte: number) => keepAllocated && object.holesIn(byte, 1) > 0;
    const first = reserves(at) ? roundDown(at, BLOCK_BYTES) : roundUp(at, BLOCK_BYTES);
    const last = reserves(end - 1) ? roundUp(end, BLOCK_BYTES) : roundDown(end, BLOCK_BYTES);
    if (at < first) await this.#zeroPart(object, at, Math.min(first, end) - at);
    if (first < last) await this.#zeroBlocks(object, first, last - first, keepAllocated);
    if (last < end && last >= first) await this.#zeroPart(object, last, end - last);
  }

  async #zeroPart(object: OpenObject, at: number, length: number): Promise<void> {
    if (object.holesIn(at, length) === 0) await this.#patch(object, at, new Uint8Array(length));
  }

  /**
   * The object, open and listed under the caller's stamp, made if the caller says so, with room for
   * `length` bytes from `at` on; without room nothing is changed.
   */
  async #forChange(
    name: ObjectName,
    key: number | string,
    at: number,
    length: number,
    call: ObjectWriteCall,
  ): Promise<OpenObject> {
    const { space, activity, flusher } = this.#parts;
    if (call.createBytes !== undefined) {
      const blocks = Math.ceil((at + length) / BLOCK_BYTES) - Math.floor(at / BLOCK_BYTES);
      await space.take(blocks + dataAtOf(call.createBytes) / BLOCK_BYTES + NAME_BLOCKS);
      return this.#objects.create(name, key, call, call.createBytes);
    }
    const object = await this.#objects.load(name, key);
    if (length > 0) await space.take(object.holesIn(at, length));
    if (object.listedUnder !== call.stamp) {
      await activity.list(name, call.stamp, object.objectBytes, object.life);
      object.listedUnder = call.stamp;
      object.stamp = call.stamp;
      object.metaDirty = true;
      flusher.changedMeta(object);
    }
    return object;
  }
}

/** What the directory may take for a new object's name. */
const NAME_BLOCKS = 1;
