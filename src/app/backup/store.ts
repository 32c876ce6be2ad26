import type { Log } from '../../base/log.ts';
import type { CpuPool } from '../../contracts/cpu-pool.ts';
import type { Disk } from '../../contracts/disk.ts';
import type { Clock, Random } from '../../contracts/seams.ts';
import type { SnapEntry, SnapshotStore } from '../../farm/snapshots/store.ts';
import { openSnapshotStore } from '../../farm/snapshots/store.ts';
import { DEFAULT_SHAPE, type StoreShape } from '../../farm/snapshots/store-identity.ts';
import { beginWriting, type StoreWriter } from '../../farm/snapshots/writer.ts';

/** A store of snapshots in a directory of its own, apart from any sheep. */
export type BackupStore = SnapshotStore;
/** The right to change one. */
export type BackupWriter = StoreWriter;
/** What its log says of a backup. */
export type BackupEntry = SnapEntry;
/** How a store that is made names and keeps content; what is not said is as usual. */
export type BackupShape = Partial<Pick<StoreShape, 'hash' | 'codec'>>;

export interface BackupHost {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly pool: CpuPool;
  /** Whom others are told of while this one writes. */
  readonly holder: { readonly host: string; readonly pid: number };
}

/**
 * Opens the store of backups in a directory.
 * @param create  makes it if it is not there
 * @throws SheepError as `openSnapshotStore`
 */
export function openBackups(
  host: BackupHost,
  directory: string,
  create?: BackupShape,
): Promise<BackupStore> {
  const shape = create && { ...DEFAULT_SHAPE, ...create };
  return openSnapshotStore({ ...host, directory, ...(shape && { create: shape }) });
}

/**
 * @param proving  what is there and damaged is stored anew when it is met
 * @throws SheepError `ERR_BUSY` with who writes, if somebody does
 */
export function changeBackups(store: BackupStore, proving = false): Promise<BackupWriter> {
  return beginWriting(store, { proving });
}
