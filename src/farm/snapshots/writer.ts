import { assert } from '../../base/assert.ts';
import { type Compressed, type ContentType, isZero, NAME_BYTES } from '../../base/content.ts';
import { isFault } from '../../base/errors.ts';
import { allSettled } from '../../base/parallel.ts';
import type { CpuPool } from '../../contracts/cpu-pool.ts';
import { decodeObjectHeader, OBJECT_HEADER_BYTES } from './pack-format.ts';
import { type OnItsWay, PackStream } from './pack-stream.ts';
import type { Pack } from './packs.ts';
import { encodeSnap, type Snap, type SnapLogName } from './snap-contents.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import { lockStore, type StoreLock } from './store-lock.ts';

/** What storing slices came to. */
export interface Stored {
  /** A name for each slice, one behind the other; zeroes for a slice of zeroes. */
  readonly names: Uint8Array;
  /** Slices that were not there yet, and those that were; of zeroes not counted. */
  readonly newSlices: number;
  readonly sharedSlices: number;
  /** What the new ones take on the medium. */
  readonly storedBytes: number;
}

/** Who names and compresses: the threads of the pool, or this one. */
type Work = Pick<CpuPool, 'name' | 'compress'>;

/** Where a sha1 ends in a name. Names that differ only behind it are of contents that collide. */
const MARK_AT = 20;

export interface WriterOptions {
  /** What is there already is read and proven before it is shared; what is damaged is stored anew. */
  readonly proving?: boolean;
}

/**
 * Whoever disposes the writer without a snap has stored nothing that anybody finds.
 * @throws SheepError `ERR_BUSY` with who it is, if there is a writer already
 */
export async function beginWriting(
  store: SnapshotStore,
  options: WriterOptions = {},
): Promise<StoreWriter> {
  await using beginning = new AsyncDisposableStack();
  const lock = beginning.use(await lockStore(store.options));
  await store.refresh();
  // What a killed writer named and did not sync is used from now on, and must stay.
  const { disk, directory } = store.options;
  await allSettled([
    disk.syncDirectory(store.packs.directory),
    disk.syncDirectory(directory),
    store.packs.removeDrafts(),
  ]);
  // A log that is written anew may name what has become stable only now.
  await allSettled(Object.values(store.logs).map((log) => log.mend()));
  beginning.move();
  return new StoreWriter(store, lock, options);
}

/**
 * The one that writes to a store. What is put may be named by what is put later, and is stable with
 * the next `barrier`. After a failure everything fails with it: dispose it and begin anew.
 */
export class StoreWriter implements AsyncDisposable {
  readonly store: SnapshotStore;
  readonly #lock: StoreLock;
  readonly #packs: PackStream;
  /** Content that is not stable yet, by name. */
  readonly #pending = new Map<string, PromiseWithResolvers<OnItsWay>>();
  /** Names of content that is there and damaged, and has not been stored anew. */
  readonly #damaged = new Set<string>();
  readonly #here: Work;
  #proving: boolean;
  #failure: unknown;

  constructor(store: SnapshotStore, lock: StoreLock, { proving = false }: WriterOptions = {}) {
    this.store = store;
    this.#lock = lock;
    this.#proving = proving;
    this.#packs = new PackStream(store, (name) => void this.#pending.delete(keyOf(name)));
    const { here } = store.options.pool;
    this.#here = {
      name: async (job) => here.name(job),
      compress: async (job) => here.compress(job),
    };
  }

  /**
   * Stores a piece of content, unless it is there.
   * @param payload  not all zeroes
   */
  async put(type: ContentType, payload: Uint8Array): Promise<Uint8Array> {
    // It is compressed where it stands; a Buffer's `slice` would not be a copy.
    const bytes = new Uint8Array(payload);
    const { names } = await this.#keep(type, bytes, bytes.length, this.#here);
    assert(!isZero(names), 'content of zeroes is not stored');
    return names;
  }

  /**
   * Stores slices of a disk, those that are not there, by the threads of the pool.
   * @param bytes  whole slices of the store's length, in memory of the pool; not what it was
   *               afterwards
   */
  putSlices(bytes: Uint8Array): Promise<Stored> {
    const { options, identity } = this.store;
    return this.#keep('data', bytes, identity.sliceBytes, options.pool);
  }

  /** From now on what is there already is proven before it is shared. */
  prove(): void {
    this.#proving = true;
  }

  /** Settles once everything put so far survives a power cut. */
  async barrier(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#packs.barrier();
  }

  /** Everything put so far and the snap are stable when this settles, and the snap is in its log. */
  async appendSnap(log: SnapLogName, snap: Omit<Snap, 'log'>): Promise<SnapEntry> {
    const name = await this.put('snap', encodeSnap({ log, ...snap }));
    await this.barrier();
    await this.#lock.check();
    const { epoch, timeMs, tag } = snap;
    await this.store.logs[log].append({ kind: 'snap', epoch, timeMs, name, tag });
    return { log, name, id: this.store.format(name), epoch, timeMs, tag };
  }

  /** The snap is gone when this settles; what only it held goes with the next collection. */
  async cancelSnap({ log, name, epoch, timeMs, tag }: SnapEntry): Promise<void> {
    await this.#lock.check();
    await this.store.logs[log].append({ kind: 'cancel', epoch, timeMs, name, tag });
  }

  /**
   * The object of an entry, once more in a new pack, if it is sound.
   * @throws SheepError `ERR_CORRUPT`: it is not, and nothing was written
   */
  async copy(entry: number): Promise<void> {
    await this.#packs.room();
    const bytes = await this.store.readEntry(entry);
    const header = decodeObjectHeader(bytes);
    assert(header !== undefined, 'what was proven has a header');
    const { type, name, rawBytes, codec, crc, storedBytes } = header;
    const form = { codec, crc, length: storedBytes };
    this.#packs.append(type, name, rawBytes, form, bytes.subarray(OBJECT_HEADER_BYTES));
  }

  /** What they held is gone, but for what stands elsewhere as well. */
  async removePacks(packs: readonly Pack[]): Promise<void> {
    await this.#lock.check();
    const { disk } = this.store.options;
    for (const pack of packs) {
      await disk.remove(this.store.packs.pathOf(pack.id));
      this.store.packs.forget(pack);
    }
    if (packs.length > 0) await disk.syncDirectory(this.store.packs.directory);
  }

  /** Lines of snaps that were cancelled, and are nowhere any more, go with what cancels them. */
  async shortenLogs(): Promise<void> {
    await this.#lock.check();
    for (const log of Object.values(this.store.logs)) {
      await log.shorten((name) => this.store.has(name));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packs.abandon();
    await this.#lock[Symbol.asyncDispose]();
  }

  async #keep(
    type: ContentType,
    bytes: Uint8Array,
    sliceBytes: number,
    work: Work,
  ): Promise<Stored> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#packs.room();
    const { hash, codec } = this.store.identity;
    const names = await work.name({ hash, type, sliceBytes, bytes });
    const nameOf = (index: number) => names.subarray(index * NAME_BYTES, (index + 1) * NAME_BYTES);
    const sliceOf = (index: number) => bytes.subarray(index * sliceBytes, (index + 1) * sliceBytes);
    let [newSlices, sharedSlices, storedBytes] = [0, 0, 0];
    let asked = Array.from({ length: bytes.length / sliceBytes }, (_, index) => index);
    asked = asked.filter((index) => !isZero(nameOf(index)));
    while (asked.length > 0) {
      if (this.#proving) await this.#findDamaged(type, asked, nameOf);
      const { fresh, there } = this.#claim(asked, nameOf);
      newSlices += fresh.length;
      try {
        const { level } = this.store;
        const job = { codec, level, sliceBytes, bytes, which: fresh };
        const forms = fresh.length === 0 ? [] : await work.compress(job);
        storedBytes += this.#append(type, sliceBytes, forms, fresh, nameOf, sliceOf);
      } catch (error) {
        this.#failure ??= error; // some names are said to be there that will not be
        for (const index of fresh) this.#pending.get(keyOf(nameOf(index)))?.reject(error);
        throw error;
      }
      asked = hash === 'sha1' ? await this.#different(type, there, nameOf, sliceOf) : [];
      sharedSlices += there.length - asked.length;
      // Another content of this sha1 was there before: the next mark is asked for.
      for (const index of asked) nameOf(index)[MARK_AT]! += 1;
    }
    return { names, newSlices, sharedSlices, storedBytes };
  }

  /** Which of them this call has to store: of what is nowhere, each name once. */
  #claim(asked: readonly number[], nameOf: (index: number) => Uint8Array) {
    const fresh: number[] = [];
    const there: number[] = [];
    for (const index of asked) {
      const key = keyOf(nameOf(index));
      // What is damaged gets a second copy, which readers find.
      const isThere = this.store.has(nameOf(index)) && !this.#damaged.has(key);
      if (this.#pending.has(key) || isThere) {
        there.push(index);
        continue;
      }
      this.#damaged.delete(key);
      const appended = Promise.withResolvers<OnItsWay>();
      appended.promise.catch(() => undefined); // whoever waits for it is told
      this.#pending.set(key, appended);
      fresh.push(index);
    }
    return { fresh, there };
  }

  async #findDamaged(
    type: ContentType,
    asked: readonly number[],
    nameOf: (index: number) => Uint8Array,
  ): Promise<void> {
    for (const index of asked) {
      const name = nameOf(index);
      if (this.#pending.has(keyOf(name)) || !this.store.has(name)) continue;
      try {
        await this.store.read(name, type);
      } catch (error) {
        if (!isFault(error, 'ERR_CORRUPT')) throw error;
        this.#damaged.add(keyOf(name));
      }
    }
  }

  #append(
    type: ContentType,
    rawBytes: number,
    forms: readonly Compressed[],
    fresh: readonly number[],
    nameOf: (index: number) => Uint8Array,
    sliceOf: (index: number) => Uint8Array,
  ): number {
    let storedBytes = 0;
    for (const [place, index] of fresh.entries()) {
      const form = forms[place];
      assert(form !== undefined, 'each slice has become something');
      const stored = sliceOf(index).subarray(0, form.length);
      const name = nameOf(index);
      const onItsWay = this.#packs.append(type, name, rawBytes, form, stored);
      this.#pending.get(keyOf(name))?.resolve(onItsWay);
      storedBytes += OBJECT_HEADER_BYTES + form.length;
    }
    return storedBytes;
  }

  /** Those whose name stands for another content: a SHA-1 can be forged. */
  async #different(
    type: ContentType,
    there: readonly number[],
    nameOf: (index: number) => Uint8Array,
    sliceOf: (index: number) => Uint8Array,
  ): Promise<number[]> {
    const different: number[] = [];
    for (const index of there) {
      if (!(await this.#holds(nameOf(index), type, sliceOf(index)))) different.push(index);
    }
    return different;
  }

  /** Whether just this stands there; what is damaged is not it. */
  async #holds(name: Uint8Array, type: ContentType, payload: Uint8Array): Promise<boolean> {
    try {
      const found = await this.#readBack(name, type);
      return Buffer.compare(found, payload) === 0;
    } catch (error) {
      if (isFault(error, 'ERR_CORRUPT')) return false;
      throw error;
    }
  }

  async #readBack(name: Uint8Array, type: ContentType): Promise<Uint8Array> {
    const onItsWay = await this.#pending.get(keyOf(name))?.promise;
    if (onItsWay === undefined || !this.#pending.has(keyOf(name))) {
      return this.store.read(name, type);
    }
    const { draft, entry } = onItsWay;
    return this.store.prove(name, type, await draft.readBack(entry), 'a pack being written');
  }
}

function keyOf(name: Uint8Array): string {
  return Buffer.from(name.buffer, name.byteOffset, name.length).toString('latin1');
}
