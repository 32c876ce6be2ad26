import { KIND } from '../base/ids.ts';
import { allSettled } from '../base/parallel.ts';
import type { Call } from '../contracts/call.ts';
import { Inode } from './inode.ts';
import { rootName } from './inode-format.ts';
import { dataName, stampOf, type VolumeParts } from './open-volume.ts';

/** Objects removed at the same time: they share the syncs that removing costs. */
const REMOVE_BATCH = 256;

/** Removes every object of a VDI that is being deleted, the inode last; can be run again. */
export async function removeVolume(
  { store, record }: VolumeParts,
  { signal }: Call = {},
): Promise<void> {
  const call = { stamp: stampOf(record), durable: false };
  const root = rootName(record.vid, record.family);
  // Also what has no entry in the inode, because everything stopped while it was made.
  const waiting = store.unsettled(record.vid).filter((name) => name.kind === KIND.data);
  const removeWaiting = async (count: number) => {
    while (waiting.length > count) {
      signal?.throwIfAborted();
      const together = waiting.splice(0, REMOVE_BATCH);
      await allSettled(together.map(async (name) => store.remove(name, call)));
    }
  };
  const inode = await Inode.openIfPresent(store, record, call);
  if (inode !== undefined) {
    for await (const index of inode.ownedBy(record.vid)) {
      waiting.push(dataName(record, index));
      await removeWaiting(REMOVE_BATCH);
    }
    await removeWaiting(0);
    waiting.push(...inode.ownLeaves());
  }
  await removeWaiting(0);
  await store.remove(root, call);
  await store.flush(record.vid);
}
