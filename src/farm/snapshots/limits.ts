import { KiB, MiB } from '../../base/units.ts';

/** Every bound of the snapshot store, with its reason. Tests make some of them small to reach them. */
export const SNAPSHOT_LIMITS = {
  /** Large enough that a store of a TiB has some ten thousand files, small enough to write anew. */
  packBytes: 32 * MiB,
  /** So many objects in a pack at most: what is not stable yet is kept in maps of objects. */
  packObjects: 16_384,
  /** Packs that are full and on their way to the medium: above, whoever stores waits. */
  packsClosing: 2,
  /** Objects are gathered to writes of this much. */
  writeBytes: 1 * MiB,
  /** Written and not yet in the page cache: above, whoever stores waits. */
  unwrittenBytes: 8 * MiB,
  /** Packs whose index is read at once when a store is opened. */
  opensAtOnce: 8,
  /** Packs that are kept open to be read. */
  openPacks: 64,
  /** Above this an object was not made by us. */
  objectBytesMax: 64 * MiB,
  /** A pack of which less than this share is needed is written anew when garbage is collected. */
  liveShareMin: 0.75,
  /** Small packs, which each snapshot leaves, are put together when there are more of a kind. */
  smallPackShare: 0.25,
  smallPacksMax: 32,
  /** How hard to compress: measured in ARCHITECTURE.md. */
  level: { zstd: 4, zlib: 6, none: 0 },
  /** One job of a thread: some milliseconds of work. */
  batchBytes: 1 * MiB,
  /** And no more slices than that, however short: some objects of JavaScript's for each. */
  batchSlices: 64,
  /** Batches that are being read or waiting for a thread, beside two for each thread. */
  batchesReading: 8,
  /** How often whoever holds a store says that it lives, and when it is taken for dead. */
  lockRefreshMs: 30_000,
  lockStaleMs: 10 * 60_000,
  /** A slice is at least a block and at most an object of a disk. */
  sliceBytesMin: 4 * KiB,
  sliceBytesMax: 1 * MiB,
} as const;

export type SnapshotLimits = {
  readonly [name in keyof typeof SNAPSHOT_LIMITS]: (typeof SNAPSHOT_LIMITS)[name] extends number
    ? number
    : (typeof SNAPSHOT_LIMITS)[name];
};
