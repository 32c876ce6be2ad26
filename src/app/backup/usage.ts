import type { Call } from '../../contracts/call.ts';
import { markLive } from '../../farm/snapshots/live-marks.ts';
import type { Backup } from './backups.ts';
import type { BackupStore } from './store.ts';

/** What a backup takes in its store, compressed. */
export interface Usage {
  /** All that it needs, and of that what nothing else needs. */
  readonly neededBytes: number;
  readonly exclusiveBytes: number;
  /** How much of the disk is not zeroes, by whole slices; equal ones count once. */
  readonly contentBytes: number;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` if the trees of any snap cannot be read */
export async function usageOf(
  store: BackupStore,
  { entry: { id } }: Backup,
  call: Call = {},
): Promise<Usage> {
  const all = store.snaps();
  const isIt = (snap: { readonly id: string }) => snap.id === id;
  const needed = (await markLive(store, all.filter(isIt), call)).live;
  const others = (
    await markLive(
      store,
      all.filter((snap) => !isIt(snap)),
      call,
    )
  ).live;
  const { index } = store.packs;
  let [neededBytes, exclusiveBytes, contentBytes] = [0, 0, 0];
  for (let object = 0; object < needed.length; object += 1) {
    if (!needed.has(object)) continue;
    const storedBytes = index.storedBytesOf(object);
    neededBytes += storedBytes;
    if (!others.has(object)) exclusiveBytes += storedBytes;
    if (index.typeOf(object) === 'data') contentBytes += store.identity.sliceBytes;
  }
  return { neededBytes, exclusiveBytes, contentBytes };
}
