import { isFault } from '../../base/errors.ts';
import type { VolumeRecord } from '../../vdi/record.ts';
import { checkStemsFrom } from '../transfer/ancestry.ts';
import type { Backup } from './backups.ts';

/** The backup that a new one is built on, and the snapshot it is of, which still exists. */
export interface Base {
  readonly backup: Backup;
  readonly snapshot: VolumeRecord;
}

/**
 * The nearest state below a snapshot, or that snapshot itself, of which there is a backup and from
 * which the cluster can tell what changed since. With clones this may be one of another VDI.
 * @param backups  in the order in which they were made
 * @param all      every VDI and snapshot there is, also those that are being deleted
 */
export function findBase(
  backups: readonly Backup[],
  clusterId: string,
  all: readonly VolumeRecord[],
  later: VolumeRecord,
): Base | undefined {
  const byVid = new Map(all.map((record) => [record.vid, record]));
  let snapshot: VolumeRecord | undefined = later;
  while (snapshot !== undefined) {
    const { vid, family, createdMs } = snapshot;
    const backup = backups.findLast(
      ({ disk }) =>
        disk.clusterId === clusterId &&
        disk.vid === vid &&
        disk.family === family &&
        disk.snapshotMs === createdMs &&
        disk.objectBytes === later.objectBytes,
    );
    if (backup !== undefined && isKnownSince(all, later, snapshot)) return { backup, snapshot };
    snapshot = byVid.get(snapshot.parent);
  }
  return undefined;
}

/** Whether the cluster can tell what changed from the one to the other. */
function isKnownSince(
  all: readonly VolumeRecord[],
  later: VolumeRecord,
  earlier: VolumeRecord,
): boolean {
  if (earlier.vid === later.vid) return true;
  if (earlier.state !== 'snapshot') return false;
  try {
    checkStemsFrom(all, later, earlier);
    return true;
  } catch (error) {
    if (isFault(error, 'ERR_BAD_INPUT')) return false;
    throw error;
  }
}
