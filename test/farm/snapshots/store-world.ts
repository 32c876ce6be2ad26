import { type ContentWork, contentWork } from '../../../src/base/content.ts';
import { silentLog } from '../../../src/base/log.ts';
import { KiB } from '../../../src/base/units.ts';
import type { Disk } from '../../../src/contracts/disk.ts';
import type { Clock, Random } from '../../../src/contracts/seams.ts';
import { SNAPSHOT_LIMITS, type SnapshotLimits } from '../../../src/farm/snapshots/limits.ts';
import {
  openSnapshotStore,
  type SnapshotStore,
  type SnapshotStoreOptions,
} from '../../../src/farm/snapshots/store.ts';
import { simCpuPool } from '../../../src/sim/sim-cpu-pool.ts';
import { SimDisk } from '../../../src/sim/sim-disk.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';

export const DIRECTORY = '/backups/store';

/** Packs of a few objects, so that a short test has many. */
export const SMALL: SnapshotLimits = {
  ...SNAPSHOT_LIMITS,
  packBytes: 32 * KiB,
  packObjects: 16,
  writeBytes: 8 * KiB,
  unwrittenBytes: 16 * KiB,
  openPacks: 3,
  batchBytes: 16 * KiB,
  batchesReading: 2,
};

export const SHAPE = { hash: 'sha256', codec: 'zstd', sliceBytes: 4 * KiB } as const;

/** A wall clock that a test sets; nobody sleeps but until he is told to stop. */
export function wallClock(startMs = 1_000_000): Clock & { wall: number } {
  const clock = {
    wall: startMs,
    wallMs: () => clock.wall,
    monotonicMs: () => 0,
    sleep: (_delayMs: number, call?: { readonly signal?: AbortSignal }) =>
      new Promise<void>((_, reject) => {
        call?.signal?.addEventListener('abort', () => reject(call.signal?.reason));
      }),
    yield: () => Promise.resolve(),
  };
  return clock;
}

/** 0, 1, 2, …: what is random in a store, held still. */
export function counting(): Random {
  let next = 0;
  return {
    below: () => 0,
    bytes: (length) =>
      Uint8Array.from({ length }, () => {
        next += 1;
        return next - 1;
      }),
  };
}

export function emptyDisk(): SimDisk {
  return new SimDisk({ directories: ['/backups'] });
}

export interface StoreWorld extends Partial<SnapshotStoreOptions> {
  readonly disk: Disk;
  readonly work?: ContentWork;
}

export function openStore({ work = contentWork, ...options }: StoreWorld): Promise<SnapshotStore> {
  return openSnapshotStore({
    directory: DIRECTORY,
    clock: wallClock(),
    random: simRandom(7),
    log: silentLog,
    pool: simCpuPool(work),
    holder: { host: 'here', pid: 1 },
    limits: SMALL,
    create: SHAPE,
    ...options,
  });
}

/** Content that compresses a little and that `seed` decides. */
export function content(seed: number, length: number = SHAPE.sliceBytes): Uint8Array {
  const bytes = simRandom(seed).bytes(length);
  return bytes.fill(seed & 0xff, 0, length >>> 2);
}
