import { isDamage } from '../../base/errors.ts';
import type { Vid } from '../../base/ids.ts';
import type { SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../farm/snapshots/store.ts';
import { isZeroName } from '../../farm/snapshots/trunk-format.ts';
import { originOf, type VolumeRecord } from '../../vdi/record.ts';

/** A state that the store holds, and that the cluster can compare with later ones. */
export interface Base {
  readonly disk: SnapDisk;
  readonly record: VolumeRecord;
}

/** The snap that was saved last, whatever clocks said. */
export function newestSnap(store: SnapshotStore): SnapEntry | undefined {
  const last = store.logs.user.live().at(-1);
  return store.snaps('user').find(({ name }) => last && Buffer.compare(name, last.name) === 0);
}

/** Which states of this cluster's disks are in a store, also of such that were loaded from it. */
export class KnownDisks {
  readonly #clusterId: string;
  readonly #byOrigin = new Map<string, SnapDisk>();

  constructor(clusterId: string, disks: readonly SnapDisk[] = []) {
    this.#clusterId = clusterId;
    for (const disk of disks) this.add(disk);
  }

  /**
   * Those of the newest snap that can be read: whatever of an older one is still in the cluster is
   * in this one as well.
   */
  static async of(store: SnapshotStore, clusterId: string): Promise<KnownDisks> {
    for (const { name } of store.logs.user.live().toReversed()) {
      try {
        return new KnownDisks(clusterId, (await store.readSnap(name)).disks);
      } catch (error) {
        if (!isDamage(error)) throw error;
      }
    }
    return new KnownDisks(clusterId);
  }

  add(disk: SnapDisk): void {
    this.#byOrigin.set(originOf(disk), disk);
  }

  /** The very state of a frozen record: a store of VDIs that was set back gives vids anew. */
  find({ vid, createdMs, objectBytes, origin }: VolumeRecord): SnapDisk | undefined {
    const here = originOf({ clusterId: this.#clusterId, vid });
    for (const name of origin === undefined ? [here] : [here, origin]) {
      const disk = this.#byOrigin.get(name);
      if (disk?.snapshotMs === createdMs && disk.objectBytes === objectBytes) return disk;
    }
    return undefined;
  }

  /**
   * The nearest state below that is known, and from whose inode can be told what changed: one whose
   * objects are all kept.
   */
  findBase(byVid: ReadonlyMap<Vid, VolumeRecord>, later: VolumeRecord): Base | undefined {
    let record = byVid.get(byVid.get(later.vid)?.parent ?? 0);
    for (; record !== undefined; record = byVid.get(record.parent)) {
      if (record.state !== 'snapshot' && record.state !== 'held') continue;
      const disk = record.objectBytes === later.objectBytes ? this.find(record) : undefined;
      if (disk !== undefined) return { disk, record };
    }
    return undefined;
  }
}

/** Whether the beginning of its tree is there and sound: all of it is a check's to prove. */
export async function isRootSound(store: SnapshotStore, { root }: SnapDisk): Promise<boolean> {
  try {
    if (!isZeroName(root)) await store.read(root, 'trunk');
    return true;
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}
