import type { DeviceInfo } from '../contracts/block-device.ts';
import { exportName, type VolumeRecord } from './record.ts';

/** Names of metadata contexts, as QEMU has them; what they say: contracts/block-device.ts. */
export const DEPTH_CONTEXT = 'qemu:allocation-depth';
export const BITMAP_CONTEXT = 'qemu:dirty-bitmap:';

/**
 * What a client is told of the disk.
 * @param ancestors  from its parent to the root of the family, also those that are being deleted
 */
export function deviceInfo(record: VolumeRecord, ancestors: readonly VolumeRecord[]): DeviceInfo {
  const readOnly = record.state === 'snapshot';
  const tags = ancestors.filter(({ state }) => state === 'snapshot').map(({ tag }) => tag);
  return {
    sizeBytes: record.sizeBytes,
    readOnly,
    description: `${readOnly ? 'snapshot' : 'VDI'} ${exportName(record)}`,
    contexts: [DEPTH_CONTEXT, ...[...new Set(tags)].map((tag) => BITMAP_CONTEXT + tag)],
  };
}
