import { Bitmap } from '../../base/bitmap.ts';
import { NAME_BYTES } from '../../base/content.ts';
import { isDamage, isFault, SheepError } from '../../base/errors.ts';
import { allSettled } from '../../base/parallel.ts';
import type { Call } from '../../contracts/call.ts';
import { SliceReader } from './slice-reader.ts';
import type { SnapDisk } from './snap-contents.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import { isZeroName, nameAt, type TrunkShape, trunkShape } from './trunk-format.ts';
import { bytesOf, childrenOf, type TrunkNode } from './trunk-reader.ts';

/** Something that is not as it should be. */
export interface CheckFinding {
  /** A file of the store, a snap, or a part of a disk. */
  readonly kind: 'pack' | 'log' | 'snap' | 'disk';
  /** For people; names the object and, where one is, the disk and its bytes. */
  readonly message: string;
  /** The object that is damaged or missing. */
  readonly object?: string;
  readonly snap?: SnapEntry;
  /** Of which disk of the snap which bytes are lost. */
  readonly disk?: SnapDisk;
  readonly at?: number;
  readonly length?: number;
}

export interface CheckOptions extends Call {
  /** Only these; absent: all snaps. */
  readonly snaps?: readonly SnapEntry[];
  /** How many of a hundred slices are read, by chance; absent: all. Trees are read in any case. */
  readonly samplePercent?: number;
  readonly progress?: (done: CheckProgress) => void;
  /** What snaps are called in messages; absent: backups. */
  readonly noun?: string;
}

/** What is stored of slices: read and proven so far, and to be read. */
export interface CheckProgress {
  readonly provenBytes: number;
  readonly totalBytes: number;
}

/**
 * Proves that what snaps need is there and is what its name says: trees from their snaps, slices in
 * the order of the medium, each once; then says of which disks it is. Memory: two bits an object.
 */
export async function* checkStore(
  store: SnapshotStore,
  options: CheckOptions = {},
): AsyncGenerator<CheckFinding> {
  for (const { path, flaw } of store.packs.flaws.values()) {
    yield { kind: 'pack', message: `${path}: ${flaw}` };
  }
  for (const log of Object.values(store.logs)) {
    if (log.isDamaged) yield { kind: 'log', message: `${log.path} is damaged` };
  }
  const snaps = options.snaps ?? store.snaps();
  const check = new StoreCheck(store, options);
  for (const snap of snaps) await check.findNeeded(snap);
  await check.proveSlices();
  for (const snap of snaps) yield* check.findings(snap);
}

class StoreCheck {
  readonly #store: SnapshotStore;
  readonly #options: CheckOptions;
  /** Entries that some snap needs, trees with all that is below them. */
  readonly #needed: Bitmap;
  /** Trees of which nothing is bad, found when findings are told. */
  readonly #sound: Bitmap;
  /** Slices that could not be read. */
  readonly #bad = new Map<number, SheepError>();
  #anythingBad = false;

  constructor(store: SnapshotStore, options: CheckOptions) {
    this.#store = store;
    this.#options = options;
    this.#needed = new Bitmap(store.packs.index.count);
    this.#sound = new Bitmap(store.packs.index.count);
  }

  /** Marks the slices that a snap needs; what cannot be followed is told later. */
  async findNeeded(snap: SnapEntry): Promise<void> {
    const disks = await this.#disksOf(snap);
    if (disks instanceof SheepError) return;
    for (const disk of disks) {
      const [root, shape] = this.#treeOf(disk);
      await this.#mark(root, shape);
    }
  }

  /** Reads what is marked, pack by pack. */
  async proveSlices(): Promise<void> {
    const wanted = this.#slicesToProve();
    const { index } = this.#store.packs;
    const totalBytes = wanted.reduce((sum, entry) => sum + index.storedBytesOf(entry), 0);
    let provenBytes = 0;
    const { pool } = this.#store.options;
    const batchSlices = this.#store.batchSlices;
    let next = 0;
    const work = async () => {
      using reader = new SliceReader(this.#store);
      while (next < wanted.length) {
        this.#options.signal?.throwIfAborted();
        const entries = wanted.subarray(next, next + batchSlices);
        next += entries.length;
        await this.#prove(entries, reader);
        for (const entry of entries) provenBytes += index.storedBytesOf(entry);
        this.#options.progress?.({ provenBytes, totalBytes });
      }
    };
    const lanes = Array.from({ length: pool.threads + 1 }, async () => {
      try {
        await work();
      } finally {
        next = wanted.length; // what failed in one is not done in the others
      }
    });
    await allSettled(lanes);
  }

  /** What is bad of a snap, by disk and bytes. */
  async *findings(snap: SnapEntry): AsyncGenerator<CheckFinding> {
    const disks = await this.#disksOf(snap);
    const { noun = 'backup' } = this.#options;
    const title = `${noun} ${snap.id.slice(0, 8)}${snap.tag === '' ? '' : ` (${snap.tag})`}`;
    if (disks instanceof SheepError) {
      yield { kind: 'snap', message: `${title}: ${disks.message}`, object: snap.id, snap };
      return;
    }
    if (!this.#anythingBad) return;
    for (const disk of disks) {
      const [root, shape] = this.#treeOf(disk);
      for await (const { error, at, length, object } of this.#lost(root, shape)) {
        const tag = disk.snapshot === '' ? '' : `@${disk.snapshot}`;
        const of = `bytes ${at} to ${at + length - 1} of ${disk.name}${tag}`;
        const message = `${title}: ${of} are lost: ${error.message}`;
        yield { kind: 'disk', message, object, snap, disk, at, length };
      }
    }
  }

  #treeOf({ root, sizeBytes, objectBytes }: SnapDisk): [TrunkNode, TrunkShape] {
    const shape = trunkShape(sizeBytes, objectBytes, this.#store.identity.sliceBytes);
    return [{ name: root, level: shape.rootLevel, index: 0 }, shape];
  }

  async #disksOf({ name }: SnapEntry): Promise<readonly SnapDisk[] | SheepError> {
    try {
      return (await this.#store.readSnap(name)).disks;
    } catch (error) {
      return lossOf(error);
    }
  }

  async #mark(node: TrunkNode, shape: TrunkShape): Promise<void> {
    if (isZeroName(node.name)) return;
    this.#options.signal?.throwIfAborted();
    const entry = this.#entryOf(node.name);
    if (entry === undefined || !this.#needed.add(entry)) return;
    const names = await this.#childrenOf(node, shape);
    if (names instanceof SheepError) {
      this.#anythingBad = true;
      return;
    }
    for (const child of childrenIn(node, names)) {
      if (node.level > 0) {
        await this.#mark(child, shape);
        continue;
      }
      const slice = this.#entryOf(child.name);
      if (slice !== undefined) this.#needed.add(slice);
    }
  }

  /** Undefined if it is not there, which is remembered. */
  #entryOf(name: Uint8Array): number | undefined {
    const entry = this.#store.packs.index.find(name);
    if (entry >= 0) return entry;
    this.#anythingBad = true;
    return undefined;
  }

  async #childrenOf(node: TrunkNode, shape: TrunkShape): Promise<Uint8Array | SheepError> {
    try {
      return await childrenOf(this.#store, node, shape);
    } catch (error) {
      return lossOf(error);
    }
  }

  /** Entries of slices, by pack and place. */
  #slicesToProve(): Uint32Array {
    const { index } = this.#store.packs;
    const { samplePercent = 100 } = this.#options;
    const { random } = this.#store.options;
    const isDrawn = () => samplePercent >= 100 || random.below(1e6) < samplePercent * 1e4;
    const wanted = new Uint32Array(this.#needed.count);
    let count = 0;
    for (const pack of this.#store.packs.all()) {
      if (pack.kind !== 'data') continue;
      for (const entry of this.#store.packs.entriesOf(pack)) {
        if (this.#needed.has(entry) && index.typeOf(entry) === 'data' && isDrawn()) {
          wanted[count] = entry;
          count += 1;
        }
      }
    }
    return wanted.subarray(0, count);
  }

  async #prove(entries: Uint32Array, reader: SliceReader): Promise<void> {
    const { index } = this.#store.packs;
    const { sliceBytes } = this.#store.identity;
    const wanted = Array.from(entries, (entry, place) => {
      return { name: index.nameOf(entry), to: place * sliceBytes };
    });
    for (const { wanted: lost, error } of await reader.read(wanted)) {
      const entry = entries[lost.to / sliceBytes];
      if (entry !== undefined) this.#bad.set(entry, error);
      this.#anythingBad = true;
    }
  }

  /** The parts of a tree that are lost. A tree that was found sound is not walked again. */
  async *#lost(node: TrunkNode, shape: TrunkShape): AsyncGenerator<Lost, boolean> {
    if (isZeroName(node.name)) return true;
    const entry = this.#store.packs.index.find(node.name);
    if (entry >= 0 && this.#sound.has(entry)) return true;
    const names = await this.#childrenOf(node, shape);
    if (names instanceof SheepError) {
      yield { error: names, object: this.#store.format(node.name), ...bytesOf(node, shape) };
      return false;
    }
    let sound = true;
    for (const child of childrenIn(node, names)) {
      const childSound =
        node.level > 0 ? yield* this.#lost(child, shape) : yield* this.#lostSlice(child, shape);
      sound &&= childSound;
    }
    if (sound && entry >= 0) this.#sound.add(entry);
    return sound;
  }

  *#lostSlice({ name, index }: TrunkNode, shape: TrunkShape): Generator<Lost, boolean> {
    const object = this.#store.format(name);
    const entry = this.#store.packs.index.find(name);
    const missing = `object ${object} (data) is not there`;
    const error =
      entry < 0 ? new SheepError('ERR_MISSING', missing, { object }) : this.#bad.get(entry);
    if (error === undefined) return true;
    const at = index * shape.sliceBytes;
    const length = Math.min(shape.sliceBytes, shape.sizeBytes - at);
    yield { error, object, at, length };
    return false;
  }
}

interface Lost {
  readonly error: SheepError;
  readonly object: string;
  readonly at: number;
  readonly length: number;
}

/** The children that are not zeroes; of a leaf: its slices, numbered from the disk's beginning. */
function* childrenIn({ level, index }: TrunkNode, names: Uint8Array): Generator<TrunkNode> {
  const count = names.length / NAME_BYTES;
  for (let place = 0; place < count; place += 1) {
    const name = nameAt(names, place);
    if (!isZeroName(name)) yield { name, level: level - 1, index: index * count + place };
  }
}

function lossOf(error: unknown): SheepError {
  if (isDamage(error) || isFault(error, 'ERR_VERSION')) return error;
  throw error;
}
