import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import type { Clock } from '../../contracts/seams.ts';
import { type CaptureBase, type CaptureCounts, captureDisk } from '../../farm/snapshots/capture.ts';
import type { SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import type { VolumeRecord } from '../../vdi/record.ts';
import type { Backup } from './backups.ts';
import type { BackupStore, BackupWriter } from './store.ts';

/** Of backups: they belong to no state of a cluster. */
const NO_EPOCH = 0;

/** A snapshot of a VDI, and how to read it. */
export interface BackupSource {
  readonly clusterId: string;
  readonly snapshot: VolumeRecord;
  readonly device: BlockDevice;
  /** What is in the store already, and what may differ from it. */
  readonly base?: { readonly backup: Backup; readonly changed: CaptureBase['changed'] };
}

export interface BackupMade {
  readonly backup: Backup;
  readonly counts: Readonly<CaptureCounts>;
}

/**
 * Stores a snapshot. It is among the backups of the store once this settles, and survives a power
 * cut from then on; if it fails, what was stored of it is shared by the next one, or collected.
 * @throws SheepError of the device and the store
 */
export async function createBackup(
  store: BackupStore,
  writer: BackupWriter,
  { clusterId, snapshot, device, base }: BackupSource,
  how: { readonly tag: string; readonly clock: Clock; readonly call: Call },
  progress: (counts: CaptureCounts) => void,
): Promise<BackupMade> {
  const { family, vid, name, tag, createdMs, allow, objectBytes } = snapshot;
  const { root, counts } = await captureDisk({
    ...{ store, writer, device, objectBytes, progress, ...how.call },
    ...(base && {
      base: {
        root: base.backup.disk.root,
        sizeBytes: base.backup.disk.sizeBytes,
        changed: base.changed,
      },
    }),
  });
  const disk: SnapDisk = {
    // Alone: its parent is not in this snap.
    ...{ clusterId, family, vid, parent: 0, name, snapshot: tag },
    ...{ snapshotMs: createdMs, createdMs, allow },
    ...{ sizeBytes: device.info.sizeBytes, objectBytes, root },
  };
  const timeMs = how.clock.wallMs();
  const entry = await writer.appendSnap('user', {
    ...{ epoch: NO_EPOCH, timeMs, tag: how.tag, nodes: [], disks: [disk] },
  });
  return { backup: { entry, disk }, counts };
}
