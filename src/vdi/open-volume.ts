import { isDamage, isFault } from '../base/errors.ts';
import { KIND, type ObjectName } from '../base/ids.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import { Inode } from './inode.ts';
import { type Entries, makeRoot } from './inode-nodes.ts';
import { ownerIn } from './levels.ts';
import { readOnly } from './read-only.ts';
import { plainCall } from './record.ts';
import { Volume, type VolumeParts } from './volume.ts';

/**
 * Makes the disk of a new record; settles when it survives a power cut.
 * @param root  the entries it begins with: those of its parent's root; none: it is empty
 */
export async function makeVolume(
  { store, record }: Pick<VolumeParts, 'store' | 'record'>,
  root?: Entries,
): Promise<void> {
  await makeRoot(store, record, plainCall(record), root);
}

/**
 * Opens a VDI for the owner whose attach epoch stands in the record, and clears away what an earlier
 * one left unfinished.
 * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` if its inode is not there or not its own
 */
export async function openVolume(parts: VolumeParts): Promise<Volume> {
  const { store, record } = parts;
  const plain = plainCall(record);
  const inode = await Inode.open(store, record, plain);
  for (const name of store.unsettled(record.vid)) {
    try {
      if (!(await isNamed(inode, name))) await store.remove(name, plain);
    } catch (error) {
      // It stays as it is for the next one to find: no reason to withhold the rest of the disk.
      if (!isDamage(error) && !isFault(error, 'ERR_IO')) throw error;
    }
  }
  const volume = await volumeOf(parts, inode);
  if (record.shrunkFromBytes > 0) await volume.clearBehindEnd(record.shrunkFromBytes);
  return volume;
}

/** Made or freed when everything stopped: without an entry in the inode it is nobody's. */
async function isNamed(inode: Inode, { kind, vid, index }: ObjectName): Promise<boolean> {
  if (kind === KIND.data) return (await inode.owner(index)) === vid;
  return kind === KIND.inode && (index === 0 || inode.ownsLeaf(index - 1));
}

/** Opens a snapshot: nothing of it is ever changed, so any number of owners may have it open. */
export async function openSnapshot(parts: VolumeParts): Promise<BlockDevice> {
  const { store, record } = parts;
  return readOnly(await volumeOf(parts, await Inode.open(store, record, plainCall(record))));
}

async function volumeOf(parts: VolumeParts, inode: Inode): Promise<Volume> {
  const { record, ancestry } = parts;
  return new Volume(parts, inode, ancestry ? await ancestry.ancestors(record) : []);
}

/** Objects that hold data, of a VDI that nobody has open: nothing is changed. */
export async function countObjects({
  store,
  record,
  ancestry,
}: VolumeParts): Promise<{ own: number; all: number }> {
  const ancestors = (await ancestry?.ancestors(record)) ?? [];
  const inode = await Inode.open(store, record, plainCall(record));
  return inode.countOwned(ownerIn(record, ancestors));
}
