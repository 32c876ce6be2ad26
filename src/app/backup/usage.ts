import type { Bitmap } from '../../base/bitmap.ts';
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

/** Objects that are looked at before others get their turn. */
const TURN_OBJECTS = 16_384;

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
  return usageIn(store, needed, (object) => others.has(object));
}

/** What marked objects take. @param isShared  whether something else needs one as well */
export async function usageIn(
  store: BackupStore,
  needed: Bitmap,
  isShared: (object: number) => boolean,
): Promise<Usage> {
  const { index } = store.packs;
  let [neededBytes, exclusiveBytes, contentBytes] = [0, 0, 0];
  let looked = 0;
  for (const object of needed) {
    looked += 1;
    if (looked % TURN_OBJECTS === 0) await store.options.clock.yield();
    const storedBytes = index.storedBytesOf(object);
    neededBytes += storedBytes;
    if (!isShared(object)) exclusiveBytes += storedBytes;
    if (index.typeOf(object) === 'data') contentBytes += store.identity.sliceBytes;
  }
  return { neededBytes, exclusiveBytes, contentBytes };
}
