import { describeError, isDamage } from '../../base/errors.ts';
import type { Vid } from '../../base/ids.ts';
import { newestSnap } from './bases.ts';
import type { SnapshotParts } from './parts.ts';

type HeldParts = Pick<SnapshotParts, 'store' | 'volumes' | 'clusterId' | 'log'>;

/**
 * Lets go of every state that is held and that the newest snap of the store does not name: that of
 * earlier ones, and what a save froze that was not finished. What cannot be let go of takes space
 * until the next time, and is only told.
 */
export async function releaseHeld(parts: HeldParts): Promise<void> {
  try {
    const named = await namedByNewest(parts);
    await parts.volumes.releaseHeld(({ vid, createdMs }) => named.get(vid) === createdMs);
  } catch (error) {
    parts.log.event('warn', 'snapshots.not-released', { cause: describeError(error) });
  }
}

/** When each state was frozen, by vid. Of a snap that cannot be read nothing serves any more. */
async function namedByNewest({ store, clusterId }: HeldParts): Promise<ReadonlyMap<Vid, number>> {
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
