import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import { type RestoreCounts, restoreDisk } from '../../farm/snapshots/restore.ts';
import { parseVdiName } from '../../vdi/names.ts';
import { deviceSink } from '../transfer/ends.ts';
import type { Backup } from './backups.ts';
import { FlushBehind } from './flush-behind.ts';
import { sparing } from './sparing.ts';
import type { BackupStore } from './store.ts';

/** @throws SheepError `ERR_BAD_INPUT` if no VDI can be called so */
export function checkRestoreName(name: string): void {
  parseVdiName(name);
}

/**
 * Makes a disk what it was; behind the end of what it was it is zero. Stable once this settles.
 * @param device  at least as large
 * @param fresh   nobody has ever written to it
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` with the bytes of the disk that are lost; of the
 *         device
 */
export async function restoreBackup(
  store: BackupStore,
  { disk: { root, sizeBytes, objectBytes } }: Backup,
  { device, fresh }: { readonly device: BlockDevice; readonly fresh: boolean },
  call: Call,
  progress: (counts: RestoreCounts) => void,
): Promise<Readonly<RestoreCounts>> {
  // What goes in whole objects goes at once, and then only what is data is written.
  await deviceSink(device, fresh).zero(0, device.info.sizeBytes);
  const disk = { root, sizeBytes, objectBytes };
  const behind = new FlushBehind(device);
  const counts = await restoreDisk({
    store,
    device: sparing(behind, true),
    ...disk,
    progress,
    ...call,
  });
  await behind.flush();
  return counts;
}
