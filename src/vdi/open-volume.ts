import { KIND, type ObjectName, type Stamp, slotOf } from '../base/ids.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { Inode } from './inode.ts';
import type { VolumeRecord } from './record.ts';
import { Volume } from './volume.ts';

/** The only slot epoch there is on one machine: its map never changes. */
const LOCAL_EPOCH = 1;

export interface VolumeParts {
  readonly store: ObjectStore;
  readonly record: VolumeRecord;
}

/** The stamp of everything that this owner writes. */
export function stampOf(record: VolumeRecord): Stamp {
  return Object.freeze({ epoch: LOCAL_EPOCH, attachEpoch: record.attachEpoch });
}

/** Makes the empty disk of a new record; settles when it survives a power cut. */
export async function makeVolume({ store, record }: VolumeParts): Promise<void> {
  await Inode.make(store, record, { stamp: stampOf(record), durable: false });
}

/**
 * Opens a VDI for the owner whose attach epoch stands in the record, and clears away what an earlier
 * one left unfinished.
 * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` if its inode is not there or not its own
 */
export async function openVolume({ store, record }: VolumeParts): Promise<Volume> {
  const plain = Object.freeze({ stamp: stampOf(record), durable: false });
  const inode = await Inode.open(store, record, plain);
  for (const name of store.unsettled(record.vid)) {
    // Made or freed when everything stopped: without an entry in the inode it is nobody's.
    if (name.kind !== KIND.data || (await inode.owner(name.index)) === record.vid) continue;
    await store.remove(name, plain);
  }
  return new Volume(store, record, inode, plain);
}

/** Objects that hold data, of a VDI that nobody has open: nothing is changed. */
export async function countObjects({ store, record }: VolumeParts): Promise<number> {
  const inode = await Inode.open(store, record, { stamp: stampOf(record), durable: false });
  return inode.countOwned();
}

export function dataName({ vid, family }: VolumeRecord, index: number): ObjectName {
  return { kind: KIND.data, vid, index, slot: slotOf(family, index) };
}
