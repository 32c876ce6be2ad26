import { describeError, isFault, SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { forEachAtMost } from '../../base/parallel.ts';
import type { Disk, DiskFile } from '../../contracts/disk.ts';
import type { Random } from '../../contracts/seams.ts';
import type { SnapshotLimits } from './limits.ts';
import { type Found, NameTable } from './name-table.ts';
import type { IndexEntries, PackHeader, PackKind } from './pack-format.ts';
import { OBJECT_HEADER_BYTES } from './pack-format.ts';
import { openPack } from './pack-open.ts';

export interface PacksPlace {
  readonly disk: Disk;
  /** The folder of the packs. */
  readonly directory: string;
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly log: Log;
  readonly limits: SnapshotLimits;
}

/** A pack of the store: its number is what the index calls it. */
export interface Pack {
  readonly number: number;
  /** 16 hex digits. */
  readonly id: string;
  readonly kind: PackKind;
  readonly createdMs: number;
  readonly fileBytes: number;
  /** Its entries in the index: so many, numbered from here on. */
  readonly firstEntry: number;
  readonly objects: number;
}

/** A file among the packs that is not what it should be. */
export interface PackFlaw {
  readonly path: string;
  readonly flaw: string;
}

const PACK_FILE = /^([0-9a-f]{16})\.pack$/;
const DRAFT_FILE = /^[0-9a-f]{16}\.draft$/;

/** A pack that is open to be read. `closing`: as soon as nobody reads it. */
interface HeldPack {
  readonly file: Promise<DiskFile>;
  users: number;
  closing: boolean;
}

/** All packs of a store, and which of them holds what. */
export class Packs {
  readonly index = new NameTable();
  readonly flaws = new Map<string, PackFlaw>();
  readonly #place: PacksPlace;
  readonly #byId = new Map<string, Pack>();
  readonly #byNumber: (Pack | undefined)[] = [];
  /** Least recently used first. */
  readonly #open = new Map<number, HeldPack>();
  #refreshing: Promise<void> | undefined;

  constructor(place: PacksPlace) {
    this.#place = place;
  }

  get directory(): string {
    return this.#place.directory;
  }

  get storeId(): Uint8Array {
    return this.#place.storeId;
  }

  all(): Iterable<Pack> {
    return this.#byId.values();
  }

  get(number: number): Pack | undefined {
    return this.#byNumber[number];
  }

  /** A name that no pack has. */
  freshId(random: Random): string {
    for (;;) {
      const id = Buffer.from(random.bytes(8)).toString('hex');
      if (!this.#byId.has(id) && !this.flaws.has(this.pathOf(id))) return id;
    }
  }

  pathOf(id: string): string {
    return `${this.#place.directory}/${id}.pack`;
  }

  draftOf(id: string): string {
    return `${this.#place.directory}/${id}.draft`;
  }

  /** Packs that came since the last time are opened, those that went are forgotten. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<void> {
    const { disk, directory, limits } = this.#place;
    const ids = new Set<string>();
    for (const name of await disk.list(directory)) {
      const id = PACK_FILE.exec(name)?.[1];
      if (id !== undefined) ids.add(id);
      else if (!DRAFT_FILE.test(name)) this.#flawed(`${directory}/${name}`, 'it is no pack');
    }
    const gone = [...this.#byId.values()].filter(({ id }) => !ids.has(id));
    for (const pack of gone) this.forget(pack);
    const fresh = [...ids].filter((id) => !this.#byId.has(id) && !this.flaws.has(this.pathOf(id)));
    await forEachAtMost(limits.opensAtOnce, fresh, async (id) => {
      const pack = await this.#openPack(id);
      if (pack !== undefined) this.enter(id, pack, pack.entries, pack.fileBytes);
    });
  }

  /** Drafts that nobody will finish: whoever calls this holds the lock. */
  async removeDrafts(): Promise<void> {
    const { disk, directory } = this.#place;
    for (const name of await disk.list(directory)) {
      if (DRAFT_FILE.test(name)) await disk.remove(`${directory}/${name}`);
    }
  }

  /** A pack with these objects is there now. */
  enter(
    id: string,
    header: Pick<PackHeader, 'kind' | 'createdMs'>,
    entries: IndexEntries,
    fileBytes: number,
  ): Pack {
    const known = this.#byId.get(id); // both its writer and a look at the folder tell of it
    if (known !== undefined) return known;
    const { kind, createdMs } = header;
    const number = this.#byNumber.length;
    const firstEntry = this.index.count;
    const facts = { kind, createdMs, fileBytes, firstEntry, objects: entries.length };
    const pack = { number, id, ...facts };
    this.#byNumber.push(pack);
    this.#byId.set(id, pack);
    if (entries.bytes !== undefined) {
      this.index.addIndex(entries.bytes, number);
      return pack;
    }
    for (const { name, type, offset, storedBytes, rawBytes } of entries) {
      this.index.add(name, { type, pack: number, offset, storedBytes, rawBytes });
    }
    return pack;
  }

  /** The pack is not there any more, nor is what only it held. */
  forget(pack: Pack): void {
    this.#byId.delete(pack.id);
    this.#byNumber[pack.number] = undefined;
    const end = pack.firstEntry + pack.objects;
    for (let entry = pack.firstEntry; entry < end; entry += 1) this.index.remove(entry);
    this.#close(pack.number);
  }

  /** Entries of its objects, in the order of the file. */
  entriesOf({ firstEntry, objects }: Pack): number[] {
    const entries = Array.from({ length: objects }, (_, place) => firstEntry + place);
    return entries.sort((a, b) => this.index.offsetOf(a) - this.index.offsetOf(b));
  }

  /**
   * Header and stored bytes of an object; short if the file ends before.
   * @throws SheepError `ERR_NOT_FOUND` if the pack is gone
   */
  async readObject(found: Found): Promise<Uint8Array> {
    const bytes = new Uint8Array(OBJECT_HEADER_BYTES + found.storedBytes);
    const got = await this.readAt(found.pack, found.offset, bytes);
    return bytes.subarray(0, got);
  }

  async readAt(number: number, at: number, into: Uint8Array): Promise<number> {
    const held = this.#hold(number);
    try {
      return await (await held.file).read(at, into);
    } finally {
      held.users -= 1;
      if (held.users === 0 && held.closing) closeFile(held);
      this.#closeSome();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    for (const { file } of files) {
      const opened = await file.catch(() => undefined);
      await opened?.[Symbol.asyncDispose]();
    }
  }

  #hold(number: number) {
    const pack = this.#byNumber[number];
    if (pack === undefined) {
      throw new SheepError('ERR_NOT_FOUND', 'a pack was removed meanwhile', { pack: number });
    }
    let held = this.#open.get(number);
    if (held === undefined) {
      const file = this.#place.disk.open(this.pathOf(pack.id), { readOnly: true });
      held = { file, users: 0, closing: false };
      file.catch(() => this.#open.delete(number));
    } else {
      this.#open.delete(number);
    }
    this.#open.set(number, held);
    held.users += 1;
    return held;
  }

  #closeSome(): void {
    for (const [number, { users }] of this.#open) {
      if (this.#open.size <= this.#place.limits.openPacks) return;
      if (users === 0) this.#close(number);
    }
  }

  #close(number: number): void {
    const held = this.#open.get(number);
    if (held === undefined) return;
    this.#open.delete(number);
    held.closing = true;
    if (held.users === 0) closeFile(held);
  }

  /** Undefined if nothing of it can be used; that is remembered, and told once. */
  async #openPack(id: string) {
    const { disk, storeId } = this.#place;
    const path = this.pathOf(id);
    try {
      await using file = await disk.open(path, { readOnly: true });
      const pack = await openPack(file, path);
      if (Buffer.compare(pack.storeId, storeId) !== 0) {
        this.#flawed(path, 'it is of another store');
        return undefined;
      }
      if (pack.flaw !== undefined) this.#flawed(path, pack.flaw);
      return pack;
    } catch (error) {
      if (isFault(error, 'ERR_NOT_FOUND')) return undefined; // a collection was faster
      if (!isFault(error, 'ERR_CORRUPT') && !isFault(error, 'ERR_VERSION')) throw error;
      this.#flawed(path, describeError(error));
      return undefined;
    }
  }

  #flawed(path: string, flaw: string): void {
    if (this.flaws.has(path)) return;
    this.flaws.set(path, { path, flaw });
    this.#place.log.event('warn', 'snapshots.pack-flaw', { path, flaw });
  }
}

function closeFile({ file }: HeldPack): void {
  file.then((opened) => opened.closeNow()).catch(() => undefined);
}
