import type { SheepError } from '../base/errors.ts';
import { type ObjectName, objectKey, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Call, Completion, ReadCall } from '../contracts/call.ts';
import type {
  ObjectExtent,
  ObjectStore,
  ObjectWriteCall,
  ObjectZeroCall,
} from '../contracts/object-store.ts';
import { Changes } from './changes.ts';
import type { Identity } from './identity.ts';
import { hasUnsure, Inheritance, sourcesNow, sourcesOf } from './inheritance.ts';
import type { Journal } from './journal.ts';
import { LiveObjects, type ObjectParts, unlinkObject } from './live-objects.ts';
import { dataAtOf, objectPath, pagesOf } from './object-format.ts';
import type { OpenObject } from './open-object.ts';
import type { Claim, Space } from './space.ts';

export interface FarmParts extends ObjectParts {
  readonly identity: Identity;
  readonly space: Space;
  readonly journal: Pick<Journal, 'segments' | 'segmentBytes'>;
  /** One round of maintenance now, instead of when its time has come. */
  readonly maintain: () => Promise<void>;
  /** Everything stable, everything closed. */
  readonly close: () => Promise<void>;
}

/** What changes all the time. */
export interface FarmStats {
  /** With their tables in memory; each keeps a file open. */
  readonly openObjects: number;
  /** How many were opened or made since the start: above all those that were not open any more. */
  readonly objectOpens: number;
  /** On the activity log: they may be changing. */
  readonly listedObjects: number;
  /** Written, and not yet on the medium. */
  readonly unsyncedBytes: number;
  /** Changes that wait until more of these are on the medium. */
  readonly waitingChanges: number;
  /** What the segments of the journal take on the disk. */
  readonly journalBytes: number;
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
  readonly #inheritance: Inheritance;
  readonly #changes: Changes;
  #closing: Promise<void> | undefined;

  constructor(parts: FarmParts) {
    this.#parts = parts;
    this.#objects = new LiveObjects(parts);
    this.#inheritance = new Inheritance({
      ...parts,
      store: this,
      loadNow: (name, key) => this.#objects.loadNow(name, key),
      load: (name) => {
        const key = objectKey(name.kind, name.vid, name.index);
        return parts.open.pass(key, false, async () => this.#objects.load(name, key));
      },
    });
    this.#changes = new Changes({ ...parts, inheritance: this.#inheritance });
  }

  get identity(): Identity {
    return this.#parts.identity;
  }

  read(name: ObjectName, at: number, into: Uint8Array, call?: ReadCall): Completion {
    const key = objectKey(name.kind, name.vid, name.index);
    const anew = call?.proveAnew === true;
    const object = anew ? undefined : this.#readableNow(name, key);
    if (object !== undefined) {
      if (object.origins === undefined) {
        if (object.readNow(at, into)) return;
      } else if (this.#inheritance.readNow(object, at, into)) return;
    }
    return this.#parts.open.pass(key, false, async () => {
      const loaded = await this.#objects.load(name, key);
      if (anew) await this.#inheritance.readAnew(loaded, at, into);
      else await this.#inheritance.readAny(loaded, at, into);
    });
  }

  /** For a reader who holds no gate; undefined says nothing. */
  #readableNow(name: ObjectName, key: number | string): OpenObject | undefined {
    return this.#parts.open.findReadable(key) ?? this.#objects.loadNow(name, key);
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
      (object.origins === undefined || !object.origins.hasZeroesIn(at / BLOCK_BYTES, from)) &&
      space.takeNow(object.holesIn(at, from.length))
    ) {
      this.#changes.writeBlocks(object, at, from);
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
    const { open, flusher, space } = this.#parts;
    const written = await open.pass(key, true, async () => {
      await flusher.room();
      using claim = space.claim();
      const object = await this.#forChange(name, key, at, from.length, call, claim);
      await this.#changes.write(object, at, from);
      return object;
    });
    if (call.durable) await flusher.flush(name.vid, [written]);
  }

  zero(name: ObjectName, at: number, length: number, call: ObjectZeroCall): Promise<void> {
    const { open, flusher, space } = this.#parts;
    const key = objectKey(name.kind, name.vid, name.index);
    return open
      .pass(key, true, async () => {
        await flusher.room();
        using claim = space.claim();
        const reserved = call.keepAllocated ? length : 0;
        const object = await this.#forChange(name, key, at, reserved, call, claim);
        await this.#changes.zero(object, at, length, call.keepAllocated, claim);
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
      flusher.check(); // what names it may not be stable as it is now, and this would be
      const object = open.find(key);
      if (object === undefined && !(await disk.exists(objectPath(directory, name)))) {
        activity.withdraw(name);
        return activity.absent(name);
      }
      if (object !== undefined) flusher.end(object);
      await activity.remove(name, call.stamp);
      activity.withdraw(name);
      await unlinkObject(this.#parts, name);
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
    const object = this.#readableNow(name, key);
    if (object !== undefined) {
      return this.#extents(object, at, length);
    }
    return this.#parts.open.pass(key, false, async () =>
      this.#extents(await this.#objects.load(name, key), at, length),
    );
  }

  sources(name: ObjectName): Uint32Array | Promise<Uint32Array> {
    const key = objectKey(name.kind, name.vid, name.index);
    const object = this.#readableNow(name, key);
    if (object !== undefined) {
      if (!hasUnsure(object)) return sourcesNow(object);
    }
    return this.#parts.open.pass(key, false, async () =>
      sourcesOf(await this.#objects.load(name, key)),
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

  stats(): FarmStats {
    const { open, activity, flusher, journal } = this.#parts;
    return {
      openObjects: open.size,
      objectOpens: open.opened,
      listedObjects: activity.size,
      unsyncedBytes: flusher.unsyncedBytes,
      waitingChanges: flusher.waiting,
      journalBytes: journal.segments.length * journal.segmentBytes,
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#parts.close();
    return this.#closing;
  }

  #extents(
    object: OpenObject,
    at: number,
    length: number,
  ): readonly ObjectExtent[] | Promise<readonly ObjectExtent[]> {
    if (object.origins === undefined) return object.extents(at, length);
    return this.#inheritance.extents(object, at, length);
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
    claim: Claim,
  ): Promise<OpenObject> {
    const { activity, flusher } = this.#parts;
    if (call.createBytes !== undefined) {
      const { createBytes, inherits } = call;
      const origins =
        inherits === undefined
          ? undefined
          : await this.#inheritance.originsFor(name, inherits, createBytes);
      const blocks = Math.ceil((at + length) / BLOCK_BYTES) - Math.floor(at / BLOCK_BYTES);
      const originBlocks = origins === undefined ? 0 : pagesOf(createBytes);
      const headBlocks = dataAtOf(createBytes) / BLOCK_BYTES + originBlocks + NAME_BLOCKS;
      await claim.take(blocks + headBlocks);
      return this.#objects.create(name, key, call, createBytes, origins);
    }
    const object = await this.#objects.load(name, key);
    object.unfold();
    if (length > 0) await claim.take(object.holesIn(at, length));
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
