import type { Vid } from '../../base/ids.ts';
import { isDamage, newestSnap } from './bases.ts';
import type { SnapshotParts } from './parts.ts';

/**
 * Lets go of every state that is held and that the newest snap of the store does not name: that of
 * earlier ones, and what a save froze that was not finished.
 */
export async function releaseHeld(
  parts: Pick<SnapshotParts, 'store' | 'volumes' | 'clusterId'>,
): Promise<void> {
  const named = await namedByNewest(parts);
  await parts.volumes.releaseHeld(({ vid, createdMs }) => named.get(vid) === createdMs);
}

/** When each state was frozen, by vid. Of a snap that cannot be read nothing serves any more. */
async function namedByNewest({
  store,
  clusterId,
}: Pick<SnapshotParts, 'store' | 'clusterId'>): Promise<ReadonlyMap<Vid, number>> {
  const newest = newestSnap(store);
  if (newest === undefined) return new Map();
  try {
    const { disks } = await store.readSnap(newest.name);
    const ours = disks.filter((disk) => disk.clusterId === clusterId);
    return new Map(ours.map(({ vid, snapshotMs }) => [vid, snapshotMs]));
  } catch (error) {
    if (!isDamage(error)) throw error;
    return new Map();
  }
}
