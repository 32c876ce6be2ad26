import { Bitmap } from '../../base/bitmap.ts';
import type { Call } from '../../contracts/call.ts';
import { markDisk, markLive } from '../../farm/snapshots/live-marks.ts';
import type { SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import type { SnapshotStore } from '../../farm/snapshots/store.ts';
import { exportName } from '../../vdi/record.ts';
import type { ClusterSnapshotInfoView, SavedDiskView } from '../admin-cluster-views.ts';
import { usageIn } from '../backup/usage.ts';
import { findEntry } from './find.ts';
import { readSound, viewOf } from './listing.ts';
import type { Amount } from './operations.ts';

/**
 * What a snapshot of the cluster holds, and what it takes. Memory: a few bits for each object of the
 * store; each tree is read twice.
 * @throws SheepError `ERR_NOT_FOUND`; `ERR_CORRUPT`, `ERR_MISSING` if trees of any cannot be read
 */
export async function showSnapshot(
  store: SnapshotStore,
  tag: string,
  call: Call = {},
  progress: (done: Amount) => void = () => undefined,
): Promise<ClusterSnapshotInfoView> {
  const entry = findEntry(store, tag);
  const snap = await readSound(store, entry);
  // How long the trees are that others share, nobody knows before they are read.
  let doneBytes = 0;
  const looked = (bytes: number) => {
    doneBytes += bytes;
    progress({ doneBytes });
  };
  const its = { ...call, looked };
  looked(0);
  const rest = store.snaps().filter(({ id }) => id !== entry.id);
  const elsewhere = (await markLive(store, rest, its)).live;
  // What some disk needs, and what several do.
  const needed = new Bitmap(elsewhere.length);
  const shared = new Bitmap(elsewhere.length);
  for (const disk of snap.disks) {
    for (const object of (await markDisk(store, disk, its)).live) {
      if (!needed.add(object)) shared.add(object);
    }
  }
  const disks: SavedDiskView[] = [];
  for (const disk of snap.disks) {
    const { live } = await markDisk(store, disk, its);
    const usage = await usageIn(store, live, (each) => shared.has(each) || elsewhere.has(each));
    disks.push({ ...diskView(disk), ...usage });
  }
  const clusterId = snap.disks[0]?.clusterId ?? '';
  const usage = await usageIn(store, needed, (object) => elsewhere.has(object));
  return { ...viewOf(entry, snap), ...usage, nodes: snap.nodes, clusterId, disks };
}

function diskView({ name, snapshot, vid, createdMs, sizeBytes, objectBytes, allow }: SnapDisk) {
  const view = { vid, createdMs, sizeBytes, objectBytes, allow };
  return { export: exportName({ name, tag: snapshot }), ...view };
}
