import type { Vid } from '../base/ids.ts';
import type { VolumeRecord } from './record.ts';

type Member = Pick<VolumeRecord, 'vid' | 'state'>;

/**
 * How far below a VDI or snapshot each vid stands that it may read of: 1 is itself, 2 the snapshot
 * below, and so on, also those that were deleted. What was held for a snapshot of the cluster is known
 * to nobody: it is taken for a part of what grew from it.
 * @param ancestors  from its parent to the root of the family
 */
export function levelsOf(
  { vid }: Pick<Member, 'vid'>,
  ancestors: readonly Member[],
): ReadonlyMap<Vid, number> {
  const levels = new Map<Vid, number>([[vid, 1]]);
  let level = 1;
  for (const { vid: below, state } of ancestors) {
    if (state !== 'held' && state !== 'released') level += 1;
    levels.set(below, level);
  }
  return levels;
}

/** Whether what a vid owns is what people call the VDI's or the snapshot's own. */
export function ownerIn(...family: Parameters<typeof levelsOf>): (vid: Vid) => boolean {
  const levels = levelsOf(...family);
  return (vid) => levels.get(vid) === 1;
}
