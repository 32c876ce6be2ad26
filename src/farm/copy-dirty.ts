import { BLOCK_BYTES } from '../base/units.ts';
import { blockSum, HOLE, INHERITED, UNPROVEN } from './checksums.ts';
import { ENTRY, type JournalEntry } from './journal-format.ts';
import type { OpenObject } from './open-object.ts';

/** Appends the dirty blocks of an object; returns their bytes, or -1 if some left the cache. */
export function copyDirty(object: OpenObject, room: Uint8Array, entries: JournalEntry[]): number {
  const { name, stamp, objectBytes, dirty } = object;
  const mine: JournalEntry[] = [];
  let used = 0;
  for (const block of dirty) {
    const common = { name, stamp, objectBytes, detail: BigInt(block) };
    const entry = object.entryOf(block);
    if (entry === HOLE) mine.push({ ...common, type: ENTRY.hole, sum: 0 });
    // One that is inherited is as it was before a write that broke off.
    if (entry === HOLE || entry === INHERITED) continue;
    const bytes = room.subarray(used, used + BLOCK_BYTES);
    if (!object.copyBlockNow(block, bytes)) return -1;
    // The copy was held to its entry; only one that proves nothing has no sum yet.
    const sum = entry === UNPROVEN ? blockSum(bytes) : entry;
    mine.push({ ...common, type: ENTRY.data, sum });
    used += BLOCK_BYTES;
  }
  entries.push(...mine);
  return used;
}
