import { SheepError } from '../../base/errors.ts';
import { findSnap } from '../../farm/snapshots/find-snap.ts';
import type { Snap } from '../../farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../farm/snapshots/store.ts';

/**
 * The snapshot of the cluster that is called so, as the log tells of it.
 * @throws SheepError `ERR_NOT_FOUND`
 */
export function findEntry(store: SnapshotStore, tag: string): SnapEntry {
  const found = findSnap(store.snaps('user'), { tag });
  if (found !== undefined) return found;
  const message = `there is no snapshot '${tag}' of the cluster; 'collie cluster snapshot list' shows which there are`;
  throw new SheepError('ERR_NOT_FOUND', message, { tag });
}

/** What it says. @throws SheepError `ERR_NOT_FOUND`; `ERR_CORRUPT`, `ERR_MISSING`, `ERR_VERSION` */
export function findSnapshot(store: SnapshotStore, tag: string): Promise<Snap> {
  return store.readSnap(findEntry(store, tag).name);
}
