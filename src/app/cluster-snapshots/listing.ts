import { describeError, isDamage, isFault, SheepError } from '../../base/errors.ts';
import type { Snap } from '../../farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../farm/snapshots/store.ts';
import { parseTag } from '../../vdi/names.ts';
import type { ClusterSnapshotListView, ClusterSnapshotView } from '../admin-cluster-views.ts';
import { checkDisks } from './load-plan.ts';

/** Every snapshot of the cluster, the oldest first; and those that are lost. */
export async function listSnapshots(
  store: SnapshotStore,
): Promise<Pick<ClusterSnapshotListView, 'snapshots' | 'lost'>> {
  const snapshots: ClusterSnapshotView[] = [];
  const lost: ClusterSnapshotListView['lost'][number][] = [];
  for (const entry of store.snaps('user')) {
    try {
      snapshots.push(viewOf(entry, await readSound(store, entry)));
    } catch (error) {
      if (!isLoss(error)) throw error;
      const { tag, id, timeMs } = entry;
      const shown = isShown(tag) ? tag : '';
      lost.push({ tag: shown, id, timeMs, flaw: describeError(error) });
    }
  }
  return { snapshots, lost };
}

/**
 * What a snapshot says, if that can be.
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING`, `ERR_VERSION`
 */
export async function readSound(store: SnapshotStore, entry: SnapEntry): Promise<Snap> {
  const snap = await store.readSnap(entry.name);
  if (!isShown(entry.tag)) throw new SheepError('ERR_CORRUPT', 'no snapshot can have its tag');
  checkDisks(snap.disks);
  return snap;
}

export function viewOf({ tag, id, timeMs }: SnapEntry, { disks }: Snap): ClusterSnapshotView {
  const vdis = disks.filter(({ snapshot }) => snapshot === '').length;
  const sizeBytes = disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  return { tag, id, timeMs, vdis, snapshots: disks.length - vdis, sizeBytes };
}

/** What is shown to people is what a person can have given. */
function isShown(tag: string): boolean {
  try {
    return parseTag(tag) === tag;
  } catch (error) {
    if (isFault(error, 'ERR_BAD_INPUT')) return false;
    throw error;
  }
}

function isLoss(error: unknown): boolean {
  return isDamage(error) || isFault(error, 'ERR_VERSION');
}
