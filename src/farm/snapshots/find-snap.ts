import type { SnapEntry } from './store.ts';

/** How a snap is asked for in one of the logs. */
export type SnapWanted =
  | { readonly epoch: number }
  | { readonly tag: string }
  /** In the order in which they were taken, from 0; from the last one back if it is negative. */
  | { readonly position: number };

/**
 * The snap that is meant, of those of one log in their order (`SnapshotStore.snaps`). Where several
 * fit, the last one: what was taken again replaces what was there.
 */
export function findSnap(snaps: readonly SnapEntry[], wanted: SnapWanted): SnapEntry | undefined {
  if ('position' in wanted) return snaps.at(wanted.position);
  if ('tag' in wanted) return snaps.findLast(({ tag }) => tag === wanted.tag);
  return snaps.findLast(({ epoch }) => epoch === wanted.epoch);
}
