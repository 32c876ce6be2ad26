import { assert } from '../../base/assert.ts';
import { type ContentType, formatName, NAME_BYTES, type StoredPiece } from '../../base/content.ts';
import { describeError, isFault, SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { allSettled } from '../../base/parallel.ts';
import type { CpuPool } from '../../contracts/cpu-pool.ts';
import type { Disk } from '../../contracts/disk.ts';
import type { Clock, Random } from '../../contracts/seams.ts';
import { SNAPSHOT_LIMITS, type SnapshotLimits } from './limits.ts';
import { decodeObjectHeader, OBJECT_HEADER_BYTES } from './pack-format.ts';
import { Packs } from './packs.ts';
import { decodeSnap, SNAP_LOGS, type Snap, type SnapLogName } from './snap-contents.ts';
import { SnapLog } from './snap-log.ts';
import {
  findIdentity,
  makeIdentity,
  type StoreIdentity,
  type StoreShape,
} from './store-identity.ts';
import { type LockHolder, lockStore } from './store-lock.ts';

export interface SnapshotStoreOptions {
  readonly disk: Disk;
  /** The store's folder. */
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly pool: CpuPool;
  /** Who writes, if anybody here does: what others are told. */
  readonly holder: LockHolder;
  /** Makes the store if it is not there; one that is there keeps its shape. */
  readonly create?: StoreShape;
  readonly limits?: SnapshotLimits;
}

/** A snap that is not cancelled, as its log tells of it. */
export interface SnapEntry {
  readonly log: SnapLogName;
  readonly name: Uint8Array;
  /** The digits of its name; any beginning of them that no other has is enough for people. */
  readonly id: string;
  readonly epoch: number;
  readonly timeMs: number;
  readonly tag: string;
}

/**
 * Opens the store in a folder. Any number of programs may have it open; one of them writes.
 * @throws SheepError `ERR_NOT_FOUND` if there is none and none is to be made; `ERR_VERSION`,
 *         `ERR_CORRUPT`, `ERR_BAD_INPUT` for a folder that holds something else
 */
export async function openSnapshotStore(options: SnapshotStoreOptions): Promise<SnapshotStore> {
  const { disk, directory, create } = options;
  let identity = await findIdentity(disk, directory);
  if (identity === undefined) {
    if (create === undefined) {
      throw new SheepError('ERR_NOT_FOUND', `${directory} holds no store of snapshots`, {
        directory,
      });
    }
    identity = await makeStore(options, create);
  }
  const store = new SnapshotStore(options, identity);
  await using opening = new AsyncDisposableStack();
  opening.use(store);
  await store.refresh();
  opening.move();
  return store;
}

/** Folders and logs first; with its identity it is a store. */
async function makeStore(options: SnapshotStoreOptions, shape: StoreShape): Promise<StoreIdentity> {
  const { disk, directory, random } = options;
  await disk.makeDirectory(directory);
  await using _lock = await lockStore(options);
  const meanwhile = await findIdentity(disk, directory);
  if (meanwhile !== undefined) return meanwhile;
  await disk.makeDirectory(`${directory}/packs`);
  for (const name of Object.values(SNAP_LOGS)) {
    await using _log = await disk.open(`${directory}/${name}`, { create: true, truncate: true });
  }
  // With all folders above, which an earlier run may have made that was killed.
  await disk.syncAll(directory);
  return makeIdentity(disk, directory, shape, random);
}

/** Content by its name, and snaps by their logs. Reading needs no lock. */
export class SnapshotStore implements AsyncDisposable {
  readonly identity: StoreIdentity;
  readonly options: SnapshotStoreOptions;
  readonly limits: SnapshotLimits;
  readonly packs: Packs;
  readonly logs: { readonly [name in SnapLogName]: SnapLog };

  constructor(options: SnapshotStoreOptions, identity: StoreIdentity) {
    const { disk, directory, log } = options;
    this.options = options;
    this.identity = identity;
    this.limits = options.limits ?? SNAPSHOT_LIMITS;
    const storeId = new Uint8Array(Buffer.from(identity.storeId.replaceAll('-', ''), 'hex'));
    const { limits } = this;
    this.packs = new Packs({ disk, directory: `${directory}/packs`, storeId, log, limits });
    const place = { disk, storeId, log };
    this.logs = {
      user: new SnapLog({ ...place, path: `${directory}/${SNAP_LOGS.user}` }),
      sys: new SnapLog({ ...place, path: `${directory}/${SNAP_LOGS.sys}` }),
    };
  }

  /** 16 bytes. */
  get storeId(): Uint8Array {
    return this.packs.storeId;
  }

  /** What other programs have stored or collected since is seen from now on. */
  async refresh(): Promise<void> {
    // Logs first: what a line names was stable before it was written.
    await allSettled(Object.values(this.logs).map((log) => log.load()));
    await this.packs.refresh();
    await this.#adoptSnaps();
  }

  has(name: Uint8Array): boolean {
    return this.packs.index.find(name) >= 0;
  }

  /** Digits for people and messages. */
  format(name: Uint8Array): string {
    return formatName(this.identity.hash, name);
  }

  /**
   * The content of that name, proven.
   * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`: named, and with where it lies
   */
  async read(name: Uint8Array, type: ContentType): Promise<Uint8Array> {
    try {
      return await this.#readAny(name, type);
    } catch (error) {
      if (!isFault(error, 'ERR_NOT_FOUND') && !isFault(error, 'ERR_MISSING')) throw error;
      // A collection of another program may have moved it.
      await this.packs.refresh();
      return this.#readAny(name, type);
    }
  }

  /** @throws SheepError as of `read`; `ERR_VERSION` */
  async readSnap(name: Uint8Array): Promise<Snap> {
    return decodeSnap(await this.read(name, 'snap'), this.format(name));
  }

  /** In the order in which they were taken. */
  snaps(log?: SnapLogName): SnapEntry[] {
    const names = log === undefined ? (['user', 'sys'] as const) : [log];
    const all = names.flatMap((each) =>
      this.logs[each].live().map(({ name, epoch, timeMs, tag }) => {
        return { log: each, name, id: this.format(name), epoch, timeMs, tag };
      }),
    );
    return all.sort((a, b) => a.timeMs - b.timeMs);
  }

  /**
   * Header and stored bytes of one copy of an object, proven.
   * @throws SheepError `ERR_CORRUPT`
   */
  async readEntry(entry: number): Promise<Uint8Array> {
    const { index } = this.packs;
    const found = index.at(entry);
    const bytes = await this.packs.readObject(found);
    const where = this.packs.pathOf(this.packs.get(found.pack)?.id ?? '');
    this.prove(index.nameOf(entry), found.type, bytes, where);
    return bytes;
  }

  /** Also used for what is not an entry of the index yet. @throws SheepError `ERR_CORRUPT` */
  prove(name: Uint8Array, type: ContentType, bytes: Uint8Array, where: string): Uint8Array {
    const header = decodeObjectHeader(bytes);
    const wrong = (why: string) =>
      new SheepError('ERR_CORRUPT', `object ${this.format(name)} in ${where} is damaged: ${why}`, {
        object: this.format(name),
        where,
      });
    if (header === undefined) throw wrong('its header cannot be read');
    if (Buffer.compare(header.name, name) !== 0) throw wrong('another object stands in its place');
    if (header.type !== type) throw wrong(`it is of type ${header.type}, not ${type}`);
    if (header.rawBytes > this.limits.objectBytesMax) throw wrong('it is larger than it can be');
    if (bytes.length !== OBJECT_HEADER_BYTES + header.storedBytes) throw wrong('it is cut off');
    const into = new Uint8Array(header.rawBytes);
    const piece: StoredPiece = { ...header, length: header.storedBytes, at: 0, to: 0 };
    const stored = bytes.subarray(OBJECT_HEADER_BYTES);
    const job = { hash: this.identity.hash, stored, names: name, pieces: [piece], into };
    const [flaw] = this.options.pool.here.prove(job);
    if (flaw !== undefined) throw wrong(flaw);
    return into;
  }

  /** How many slices a thread is given at once. */
  get batchSlices(): number {
    const { batchBytes, batchSlices } = this.limits;
    return Math.max(1, Math.min(batchSlices, Math.floor(batchBytes / this.identity.sliceBytes)));
  }

  get level(): number {
    return this.limits.level[this.identity.codec];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.packs[Symbol.asyncDispose]();
  }

  /** Of a damaged log: snaps that are there and that no line of it mentions. */
  async #adoptSnaps(): Promise<void> {
    if (Object.values(this.logs).every((log) => !log.isDamaged)) return;
    const { index } = this.packs;
    for (let entry = 0; entry < index.count; entry += 1) {
      if (!index.isThere(entry) || index.typeOf(entry) !== 'snap') continue;
      const name = index.nameOf(entry).slice();
      if (Object.values(this.logs).some((log) => log.mentions(name))) continue;
      try {
        const { log, epoch, timeMs, tag } = await this.readSnap(name);
        if (this.logs[log].isDamaged)
          this.logs[log].adopt({ kind: 'snap', epoch, timeMs, name, tag });
      } catch (error) {
        const facts = { snap: this.format(name), cause: describeError(error) };
        this.options.log.event('warn', 'snapshots.snap-unreadable', facts);
      }
    }
  }

  /** The first copy that is sound: a stopped collection may leave two. */
  async #readAny(name: Uint8Array, type: ContentType): Promise<Uint8Array> {
    assert(name.length === NAME_BYTES, 'a name has its length');
    const { index } = this.packs;
    let failure: unknown;
    for (let entry = index.find(name); entry >= 0; entry = index.find(name, entry)) {
      const found = index.at(entry);
      const where = this.packs.pathOf(this.packs.get(found.pack)?.id ?? '');
      try {
        return this.prove(name, type, await this.packs.readObject(found), where);
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    throw new SheepError('ERR_MISSING', `object ${this.format(name)} (${type}) is not there`, {
      object: this.format(name),
      type,
    });
  }
}
