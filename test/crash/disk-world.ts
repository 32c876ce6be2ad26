import { KIND, oidParts } from '../../src/base/ids.ts';
import { silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Clock, Random } from '../../src/contracts/seams.ts';
import type { Farm } from '../../src/farm/farm.ts';
import { FARM_LIMITS, type FarmLimits } from '../../src/farm/limits.ts';
import { openFarm } from '../../src/farm/open-farm.ts';
import { Inode } from '../../src/vdi/inode.ts';
import { makeVolume, openVolume } from '../../src/vdi/open-volume.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { type BlockModel, blockValue, fillBlocks } from './block-model.ts';

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

function recordOf(attachEpoch: number): VolumeRecord {
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
    state: 'ready',
  };
}

export interface OpenDisk {
  readonly farm: Farm;
  readonly volume: Volume;
}

/** Opens the store as a daemon does at its start; `attachEpoch` 1 makes the VDI first. */
export async function openDisk(
  disk: Disk,
  random: Random,
  attachEpoch: number,
  limits = SMALL_LIMITS,
): Promise<OpenDisk> {
  const options = { directory: '/store', disk, clock: stillClock, random, log: silentLog, limits };
  const farm = await openFarm({ ...options, checksums: true });
  const record = recordOf(attachEpoch);
  if (attachEpoch === 1) await makeVolume({ store: farm, record });
  return { farm, volume: await openVolume({ store: farm, record }) };
}

/** Random requests, some at the same time, with `model` told of each; `now` names moments. */
export async function runLoad(
  { farm, volume }: OpenDisk,
  load: { random: Random; steps: number; model: BlockModel; now: () => number; firstValue: number },
): Promise<void> {
  const { random, model, now } = load;
  let value = load.firstValue;
  const range = (blocksMax: number) => {
    const length = 1 + random.below(Math.min(blocksMax, DISK_BLOCKS));
    return { first: random.below(DISK_BLOCKS - length + 1), length };
  };
  const write = async () => {
    const { first, length } = range(random.below(4) === 0 ? 20 : 2);
    value += 1;
    const bytes = fillBlocks(new Uint8Array(length * BLOCK_BYTES), value);
    const answer = model.begin(first, first + length, value, now());
    const durable = random.below(6) === 0;
    await volume.write(first * BLOCK_BYTES, bytes, { durable });
    answer(now());
    if (durable) model.flush(first, first + length)(now());
  };
  const zero = async (trim: boolean) => {
    const { first, length } = range(random.below(3) === 0 ? DISK_BLOCKS : 12);
    const answer = model.begin(first, first + length, 0, now());
    const at = first * BLOCK_BYTES;
    const bytes = length * BLOCK_BYTES;
    const keepAllocated = random.below(3) === 0;
    if (trim) await volume.trim(at, bytes, { durable: false });
    else await volume.writeZeroes(at, bytes, { durable: false, keepAllocated, fastOnly: false });
    answer(now());
  };
  const flush = async () => {
    const answer = model.flush();
    await volume.flush();
    answer(now());
  };
  const step = () => {
    const dice = random.below(20);
    if (dice < 12) return write();
    if (dice < 14) return zero(dice === 12);
    if (dice < 19) return flush();
    return farm.maintain();
  };
  for (let done = 0; done < load.steps; ) {
    const together = 1 + random.below(4);
    await Promise.all(Array.from({ length: together }, step));
    done += together;
  }
}

/**
 * Data objects that nobody owns and the activity log does not know: space that is lost for good.
 * @param listed  oids on the activity log when the store was opened
 */
export async function orphans(
  disk: Disk,
  { farm }: OpenDisk,
  listed: ReadonlySet<string>,
): Promise<string[]> {
  const inode = await Inode.open(farm, recordOf(1), {
    stamp: { epoch: 1, attachEpoch: 1 },
    durable: false,
  });
  const found: string[] = [];
  for (const folder of await disk.list('/store/obj')) {
    for (const oid of await disk.list(`/store/obj/${folder}`)) {
      const { kind, index } = oidParts(BigInt(`0x${oid}`));
      if (kind !== KIND.data || listed.has(oid)) continue;
      if ((await inode.owner(index)) === 0) found.push(`object ${oid} is nobody's`);
    }
  }
  return found;
}

/** Every block that holds what it may not, as sentences. */
export async function violations(
  volume: Volume,
  allowed: (block: number) => ReadonlySet<number>,
): Promise<string[]> {
  const found: string[] = [];
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let block = 0; block < DISK_BLOCKS; block += 1) {
    await volume.read(block * BLOCK_BYTES, bytes);
    const value = blockValue(bytes);
    const possible = allowed(block);
    if (value !== undefined && possible.has(value)) continue;
    found.push(`block ${block} holds ${value ?? 'a mix'}, allowed: ${[...possible].join(' ')}`);
  }
  return found;
}
