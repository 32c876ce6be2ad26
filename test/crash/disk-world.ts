import { KIND, oidParts, type Vid } from '../../src/base/ids.ts';
import { silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Clock, Random } from '../../src/contracts/seams.ts';
import type { Farm } from '../../src/farm/farm.ts';
import { FARM_LIMITS, type FarmLimits } from '../../src/farm/limits.ts';
import { openFarm } from '../../src/farm/open-farm.ts';
import { Inode } from '../../src/vdi/inode.ts';
import { makeVolume, openVolume } from '../../src/vdi/open-volume.ts';
import { plainCall, type VolumeRecord } from '../../src/vdi/record.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { blockValue } from './block-model.ts';
import type { Family } from './family.ts';

/** A small disk, so that its few objects meet every limit: 10 objects of 8 blocks, one cut short. */
const OBJECT_BYTES = 32 * KiB;
export const DISK_BLOCKS = 9 * 8 + 5;

/** Limits that a short run reaches: evictions, full segments, large and small flushes. */
export const SMALL_LIMITS: FarmLimits = {
  ...FARM_LIMITS,
  journalFlushBytes: 16 * KiB,
  segmentBytes: 64 * KiB,
  segmentsMax: 2,
  unsyncedMaxBytes: 160 * KiB,
  unsyncedBackgroundBytes: 96 * KiB,
  openObjects: 4,
  unsyncedObjects: 8,
  listedObjects: 6,
  spaceStepBytes: 1 * MiB,
};

/** Sleeps until it is told to stop: rounds of maintenance are asked for by the test. */
export const stillClock: Clock = {
  wallMs: () => 0,
  monotonicMs: () => 0,
  sleep: (_delayMs, call) =>
    new Promise((_, reject) => {
      const { signal } = call ?? {};
      signal?.addEventListener('abort', () => reject(signal.reason));
    }),
  yield: () => Promise.resolve(),
};

/** Of a disk that is alone in its family. */
export function recordOf(attachEpoch: number, more: Partial<VolumeRecord> = {}): VolumeRecord {
  return {
    name: 'disk',
    vid: 5,
    family: 5,
    parent: 0,
    tag: '',
    shrunkFromBytes: 0,
    sizeBytes: DISK_BLOCKS * BLOCK_BYTES,
    objectBytes: OBJECT_BYTES,
    attachEpoch,
    createdMs: 0,
    allow: ['default'],
    state: 'ready',
    ...more,
  };
}

export interface OpenDisk {
  readonly farm: Farm;
  readonly volume: Volume;
  /** The snapshots that it is taken of, if it has any. */
  readonly family?: Family;
}

/** Opens the store as a daemon does at its start; `attachEpoch` 1 makes the VDI first. */
export async function openDisk(
  disk: Disk,
  random: Random,
  attachEpoch: number,
  limits = SMALL_LIMITS,
): Promise<OpenDisk> {
  const farm = await openStore(disk, random, limits);
  const record = recordOf(attachEpoch);
  if (attachEpoch === 1) await makeVolume({ store: farm, record });
  return { farm, volume: await openVolume({ store: farm, record }) };
}

export function openStore(disk: Disk, random: Random, limits = SMALL_LIMITS): Promise<Farm> {
  const options = { directory: '/store', disk, clock: stillClock, random, log: silentLog, limits };
  return openFarm({ ...options, checksums: true });
}

/**
 * Data objects that nobody owns and the activity log does not know: space that is lost for good.
 * @param listed  oids on the activity log when the store was opened
 */
export async function orphans(
  disk: Disk,
  { farm, family }: OpenDisk,
  listed: ReadonlySet<string>,
): Promise<string[]> {
  const records = family?.records() ?? [recordOf(1)];
  const inodes = new Map<Vid, Inode>();
  for (const record of records) {
    inodes.set(record.vid, await Inode.open(farm, record, plainCall(record)));
  }
  const found: string[] = [];
  for (const folder of await disk.list('/store/obj')) {
    for (const oid of await disk.list(`/store/obj/${folder}`)) {
      const { kind, vid, index } = oidParts(BigInt(`0x${oid}`));
      if (kind !== KIND.data || listed.has(oid)) continue;
      if ((await inodes.get(vid)?.owner(index)) !== vid) found.push(`object ${oid} is nobody's`);
    }
  }
  return found;
}

/** Every block that holds what it may not, as sentences. */
export async function violations(
  device: Pick<BlockDevice, 'read'>,
  allowed: (block: number) => ReadonlySet<number>,
): Promise<string[]> {
  const values = await valuesOf(device);
  return values.flatMap((value, block) => {
    const possible = allowed(block);
    if (value !== undefined && possible.has(value)) return [];
    return [`block ${block} holds ${value ?? 'a mix'}, allowed: ${[...possible].join(' ')}`];
  });
}

/** The value of each block; undefined where it is torn. */
export async function valuesOf(device: Pick<BlockDevice, 'read'>): Promise<(number | undefined)[]> {
  const values: (number | undefined)[] = [];
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let block = 0; block < DISK_BLOCKS; block += 1) {
    await device.read(block * BLOCK_BYTES, bytes);
    values.push(blockValue(bytes));
  }
  return values;
}
