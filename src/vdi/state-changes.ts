import type { Call } from '../contracts/call.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { changedBlock, describeObjects, type Look, type Sources } from './changes.ts';
import { DataNames } from './data-names.ts';
import { Inode } from './inode.ts';
import { plainCall, type VolumeRecord } from './record.ts';

/** Runs that are described at once. */
const RUNS_AT_ONCE = 4096;

/** How the blocks of an object are held; asked in the turn in which the inode was. */
export async function sourcesOf(
  store: ObjectStore,
  names: DataNames,
  inode: Inode,
  index: number,
): Promise<Sources> {
  const owner = await inode.owner(index);
  return owner === 0 ? undefined : store.sources(names.of(owner, index));
}

/** Says of objects which of their blocks may differ between two states of a family: flag 1. */
export function changesBetween(
  store: ObjectStore,
  names: DataNames,
  { earlier, later }: { readonly earlier: Inode; readonly later: Inode },
): (index: number, end: number) => Promise<Look> {
  return async (index, end) => {
    const sameTo = later.sameUntil(earlier, index, end);
    if (sameTo > index) return { upTo: sameTo, flags: 0 };
    const [was, is] = [await earlier.owner(index), await later.owner(index)];
    if (was === is) return { upTo: index + 1, flags: 0 };
    const after = await sourcesOf(store, names, later, index);
    const before = await sourcesOf(store, names, earlier, index);
    return { flagsOf: (block) => (changedBlock(before, after, block) ? 1 : 0) };
  };
}

/**
 * What may differ between a frozen state and one that it stems from, in order. Both stay while it is
 * asked. What lies behind the end of the earlier one counts as zeroes there.
 * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`
 */
export async function* changedRanges(
  store: ObjectStore,
  { earlier, later }: { readonly earlier: VolumeRecord; readonly later: VolumeRecord },
  { signal }: Call = {},
): AsyncGenerator<{ readonly at: number; readonly length: number }> {
  const { objectBytes, sizeBytes, family } = later;
  const inodeOf = (record: VolumeRecord) => Inode.open(store, record, plainCall(record));
  const inodes = { earlier: await inodeOf(earlier), later: await inodeOf(later) };
  const look = changesBetween(store, new DataNames(family), inodes);
  for (let at = 0; at < sizeBytes; ) {
    signal?.throwIfAborted();
    const range = { at, length: sizeBytes - at, countMax: RUNS_AT_ONCE, objectBytes };
    for (const { length, flags } of await describeObjects(range, look)) {
      if (flags !== 0) yield { at, length };
      at += length;
    }
  }
}
