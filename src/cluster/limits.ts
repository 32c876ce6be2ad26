import { assert } from '../base/assert.ts';
import { GiB, KiB, MiB } from '../base/units.ts';

/** Keys name VDIs (255 bytes) and nodes below a prefix; etcd has no limit of its own. */
export const KEY_BYTES_MAX = 1024;
/** etcd refuses transactions of more than 128 operations and requests above 1.5 MiB. */
export const SWAP_KEYS_MAX = 128;
export const SWAP_BYTES_MAX = MiB;
/** Swaps that wait while a sync runs share the next one, up to this many bytes a write. */
export const BATCH_BYTES_MAX = MiB;
/** A record above this is not ours: its length is damaged. */
export const RECORD_BODY_BYTES_MAX = 4 * MiB;
assert(
  BATCH_BYTES_MAX + SWAP_BYTES_MAX + 2 * SWAP_KEYS_MAX * KEY_BYTES_MAX < RECORD_BODY_BYTES_MAX,
  'any batch fits one record',
);

/** What a watcher may be behind; one that is further behind lists again. */
export const HISTORY_REVISIONS_MAX = 4096;

/** Space reserved ahead of the log's end, so that VDIs can be deleted on a full disk. */
export const LOG_RESERVE_BYTES = 256 * KiB;
/** A log is rewritten when it is larger than this and mostly garbage. */
export const COMPACT_BYTES_MIN = 256 * KiB;
export const COMPACT_GARBAGE_RATIO = 4;
/** A log is read whole; a million VDIs with all their garbage take less. */
export const LOG_BYTES_MAX = GiB;
