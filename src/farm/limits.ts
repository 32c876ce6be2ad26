import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, GiB, KiB, MiB, roundDown } from '../base/units.ts';

/** Every bound of the store, with its reason. Tests make some of them small to reach them. */
export const FARM_LIMITS = {
  /** A flush of at most this much goes to the journal: one sync whatever the number of objects. */
  journalFlushBytes: 1 * MiB,
  /** Of many objects more does: this much each, together at most so much, a copy of some 10 ms. */
  journalFlushObjectBytes: 64 * KiB,
  journalFlushMaxBytes: 8 * MiB,
  /** Long enough that a checkpoint of its objects is rare, short enough to replay in a second. */
  segmentBytes: 64 * MiB,
  /** On a small disk a segment is a 256th of it, but no less than this. */
  segmentMinBytes: 4 * MiB,
  /** Above this many the journal is shortened, and until then flushes sync the objects themselves. */
  segmentsMax: 4,
  /** Changed bytes that no sync covers yet; above, writers wait. A share of the memory: limitsFor. */
  unsyncedMaxBytes: 1 * GiB,
  /** From here on objects are synced in the background, so that the bound above is seldom met. */
  unsyncedBackgroundBytes: 256 * MiB,
  /** Bytes of large durable writes that go to the medium while the rest still arrives. The device's
   * queue takes more than this without making us wait. */
  begunMaxBytes: 16 * MiB,
  /** Objects whose files are not stable: each keeps its file open. Half of them start the syncing. */
  unsyncedObjects: 4096,
  /** fdatasync calls at once: more than this gains nothing on ext4, and the pool has other work. */
  syncsAtOnce: 4,
  /** Open objects: one file descriptor each, and with what they hold so much memory: some 4,000
   * that are full, or all of those that hold little, as in a chain of snapshots. */
  openObjects: 8192,
  openTableBytes: 28 * MiB,
  /** On the activity log: about half a KiB of memory each. Above, a round of maintenance begins. */
  listedObjects: 16_384,
  /** An object that has been clean for so long leaves the activity log. */
  retireAfterMs: 30_000,
  /** How much space is bought from the file system at once before it is asked again. */
  spaceStepBytes: 64 * MiB,
  /** Kept free so that deletes, flushes and shutdown work on a full disk: a 50th, between these. */
  reserveMinBytes: 8 * MiB,
  reserveMaxBytes: 2 * GiB,
};
export type FarmLimits = { readonly [K in keyof typeof FARM_LIMITS]: number };

/** Objects from 4 KiB (an inode node may be small) to 64 MiB. */
export const OBJECT_BYTES_MAX = 64 * MiB;
/** A scan of an object after a crash reads this much at a time. */
export const SCAN_BYTES = 1 * MiB;

/**
 * The limits for a store that may have so many files of objects open, on a machine with so much memory. As the
 * kernel does, we begin to sync when a tenth of the memory waits for it: what is written again before
 * that costs the medium nothing. Linux slows writers down when about 15 % of it is dirty; our own
 * bound has to come before that.
 */
export function limitsFor(objectFiles: number, memoryBytes: number): FarmLimits {
  const share = Math.floor(objectFiles / 2);
  const unsyncedMaxBytes = Math.max(64 * MiB, Math.floor(memoryBytes / 8));
  return {
    ...FARM_LIMITS,
    unsyncedMaxBytes,
    unsyncedBackgroundBytes: Math.floor(unsyncedMaxBytes * 0.8),
    openObjects: Math.min(FARM_LIMITS.openObjects, share),
    unsyncedObjects: Math.min(FARM_LIMITS.unsyncedObjects, share),
  };
}

/** Relations that must hold between the limits. */
export function checkLimits(limits: FarmLimits): void {
  const segmentBytes = Math.min(limits.segmentBytes, limits.segmentMinBytes);
  assert(limits.journalFlushBytes * 4 <= segmentBytes, 'a segment holds several flushes');
  assert(limits.unsyncedBackgroundBytes < limits.unsyncedMaxBytes, 'syncing starts before waiting');
  assert(limits.segmentBytes % BLOCK_BYTES === 0, 'segments consist of whole blocks');
  assert(limits.openTableBytes >= 256 * KiB, 'a few tables of the largest objects fit');
}

/** How long a segment of the journal is in a store on a disk of this size. */
export function segmentBytesOn(totalBytes: number, limits: FarmLimits): number {
  const share = roundDown(totalBytes / 256, BLOCK_BYTES);
  return Math.min(limits.segmentBytes, Math.max(share, limits.segmentMinBytes));
}

/** What is kept free on such a disk; the journal may grow into it, and a start needs a segment. */
export function reservedBytesOn(totalBytes: number, limits: FarmLimits): number {
  const journalBytes = (limits.segmentsMax + 2) * segmentBytesOn(totalBytes, limits);
  const share = Math.max(Math.floor(totalBytes / 50), limits.reserveMinBytes);
  return Math.max(journalBytes, Math.min(share, limits.reserveMaxBytes));
}
