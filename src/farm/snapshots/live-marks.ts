import { Bitmap } from '../../base/bitmap.ts';
import { isDamage, SheepError } from '../../base/errors.ts';
import type { Call } from '../../contracts/call.ts';
import type { SnapDisk } from './snap-contents.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import { isZeroName, nameAt, type TrunkShape, trunkShape } from './trunk-format.ts';
import { childrenOf, type TrunkNode } from './trunk-reader.ts';

export interface MarkCall extends Call {
  /** Called for each node of the lowest level that is read, with the bytes of disk it speaks of. */
  readonly looked?: (bytes: number) => void;
}

/** Which entries of the index some snap needs. */
export interface LiveMarks {
  readonly live: Bitmap;
  /** Slices that a snap names and that are not there: what a check tells more of. */
  readonly missing: number;
}

/**
 * Marks what these snaps need, each tree once however many snaps share it: a bit for each entry, and
 * one node of each level in memory.
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` if a snap or a trunk cannot be read: nobody knows
 *         what is below it then
 */
export async function markLive(
  store: SnapshotStore,
  snaps: readonly SnapEntry[],
  call: MarkCall = {},
): Promise<LiveMarks> {
  const marker = new Marker(store, call);
  for (const snap of snaps) await marker.markSnap(snap);
  return marker;
}

/** Marks what one disk needs, whatever else does. @throws SheepError as `markLive` */
export async function markDisk(
  store: SnapshotStore,
  disk: SnapDisk,
  call: MarkCall = {},
): Promise<LiveMarks> {
  const marker = new Marker(store, call);
  await marker.markDisk(disk);
  return marker;
}

class Marker implements LiveMarks {
  readonly live: Bitmap;
  missing = 0;
  readonly #store: SnapshotStore;
  readonly #call: MarkCall;

  constructor(store: SnapshotStore, call: MarkCall) {
    this.#store = store;
    this.#call = call;
    this.live = new Bitmap(store.packs.index.count);
  }

  async markSnap(entry: SnapEntry): Promise<void> {
    const { disks } = await this.#store.readSnap(entry.name);
    for (const disk of disks) {
      try {
        await this.markDisk(disk);
      } catch (error) {
        throw unreadable(error, entry, disk);
      }
    }
    this.#mark(entry.name);
  }

  async markDisk({ root, sizeBytes, objectBytes }: SnapDisk): Promise<void> {
    const shape = trunkShape(sizeBytes, objectBytes, this.#store.identity.sliceBytes);
    await this.#markNode({ name: root, level: shape.rootLevel, index: 0 }, shape);
  }

  async #markNode(node: TrunkNode, shape: TrunkShape): Promise<void> {
    if (isZeroName(node.name) || this.#isMarked(node.name)) return;
    this.#call.signal?.throwIfAborted();
    const names = await childrenOf(this.#store, node, shape);
    const count = names.length / node.name.length;
    if (node.level === 0) this.#call.looked?.(count * this.#store.identity.sliceBytes);
    for (let place = 0; place < count; place += 1) {
      const name = nameAt(names, place);
      if (isZeroName(name)) continue;
      if (node.level > 0) await this.#markNode({ ...node, name, level: node.level - 1 }, shape);
      else if (!this.#mark(name)) this.missing += 1;
    }
    this.#mark(node.name);
  }

  #isMarked(name: Uint8Array): boolean {
    const entry = this.#store.packs.index.find(name);
    return entry >= 0 && this.live.has(entry);
  }

  /** False if it is not there. */
  #mark(name: Uint8Array): boolean {
    const entry = this.#store.packs.index.find(name);
    if (entry >= 0) this.live.add(entry);
    return entry >= 0;
  }
}

function unreadable(error: unknown, { id, tag }: SnapEntry, disk: SnapDisk): unknown {
  if (!isDamage(error)) return error;
  const of = disk.snapshot === '' ? disk.name : `${disk.name}@${disk.snapshot}`;
  return new SheepError(
    error.code,
    `what ${id.slice(0, 8)} (${tag || 'no tag'}) needs of ${of} cannot be known: ${error.message}`,
    { ...error.facts, snap: id, disk: disk.name },
    error,
  );
}
