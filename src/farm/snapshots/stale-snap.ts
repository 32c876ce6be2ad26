import type { ObjectName } from '../../base/ids.ts';
import { damaged } from './pack-format.ts';
import type { Snap, SnapDisk } from './snap-contents.ts';
import { compareOids, decodeStaleList, type StaleObject } from './stale-list.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import { isZeroName, nameAt, trunkShape } from './trunk-format.ts';
import { TrunkReader } from './trunk-reader.ts';

/** The list stands first, as a disk of its own: no VDI has this vid. */
export const LIST_VID = 0;
/** How many slices of it a leaf names. */
export const LIST_LEAF_SLICES = 64;

/** Under which vid objects stand in a snap of an epoch: apart by kinds. */
export function groupVid({ kind, vid }: Pick<ObjectName, 'kind' | 'vid'>): number {
  return kind * 2 ** 32 + vid;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_MISSING`, `ERR_VERSION`: named */
export async function openStale(store: SnapshotStore, entry: SnapEntry): Promise<StaleSnap> {
  const snap = await store.readSnap(entry.name);
  const place = `the list of snap ${entry.id}`;
  const [list, ...groups] = snap.disks;
  if (list?.vid !== LIST_VID) throw damaged(place, 'it is not there');
  const bytes = new Uint8Array(list.sizeBytes);
  await readRange(store, readerOf(store, list), 0, bytes);
  const objects = decodeStaleList(bytes, place);
  const disks = new Map(groups.map((disk) => [disk.vid, disk]));
  for (const { name } of objects) {
    if (!disks.has(groupVid(name))) throw damaged(place, 'it names what the snap does not have');
  }
  return new StaleSnap(store, snap, objects, disks);
}

/** What an epoch left behind, as it was kept. */
export class StaleSnap {
  readonly snap: Snap;
  /** By ascending oid. */
  readonly objects: readonly StaleObject[];
  /** Where their content stands, by `groupVid`. */
  readonly disks: ReadonlyMap<number, SnapDisk>;
  readonly #store: SnapshotStore;
  readonly #readers = new Map<number, TrunkReader>();

  constructor(
    store: SnapshotStore,
    snap: Snap,
    objects: readonly StaleObject[],
    disks: ReadonlyMap<number, SnapDisk>,
  ) {
    this.#store = store;
    this.snap = snap;
    this.objects = objects;
    this.disks = disks;
  }

  find(name: ObjectName): StaleObject | undefined {
    let [low, high] = [0, this.objects.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareOids((this.objects[middle] as StaleObject).name, name) < 0) low = middle + 1;
      else high = middle;
    }
    const found = this.objects[low];
    return found !== undefined && compareOids(found.name, name) === 0 ? found : undefined;
  }

  /** The name of what an object holds: equal names, equal content; zeroes if it holds nothing else. */
  async contentOf({ name }: StaleObject): Promise<Uint8Array> {
    return (await this.#readerOf(name).nameOf(0, name.index)).slice();
  }

  /** @throws SheepError `ERR_CORRUPT`, `ERR_MISSING`: what is not what it was is never given out */
  async read({ name, bytes }: StaleObject): Promise<Uint8Array> {
    const into = new Uint8Array(bytes);
    await readRange(this.#store, this.#readerOf(name), name.index, into);
    return into;
  }

  #readerOf(name: ObjectName): TrunkReader {
    const vid = groupVid(name);
    let reader = this.#readers.get(vid);
    if (reader === undefined) {
      reader = readerOf(this.#store, this.disks.get(vid) as SnapDisk);
      this.#readers.set(vid, reader);
    }
    return reader;
  }
}

function readerOf(store: SnapshotStore, { root, sizeBytes, objectBytes }: SnapDisk): TrunkReader {
  return new TrunkReader(store, {
    root,
    shape: trunkShape(sizeBytes, objectBytes, store.identity.sliceBytes),
  });
}

/** Fills `into` from the beginning of a leaf on. */
async function readRange(
  store: SnapshotStore,
  reader: TrunkReader,
  leaf: number,
  into: Uint8Array,
): Promise<void> {
  const { sliceBytes, leafSlices } = reader.shape;
  for (let at = 0; at < into.length; at += sliceBytes) {
    const slice = at / sliceBytes;
    const names = await reader.namesIn(0, leaf + Math.floor(slice / leafSlices));
    const name = nameAt(names, slice % leafSlices);
    const bytes = isZeroName(name) ? undefined : await store.read(name, 'data');
    const length = Math.min(sliceBytes, into.length - at);
    if (bytes !== undefined) into.set(bytes.subarray(0, length), at);
  }
}
