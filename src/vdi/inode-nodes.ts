import { SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import type { ObjectStore, ObjectWriteCall } from '../contracts/object-store.ts';
import {
  decodeInodeHeader,
  encodeInodeHeader,
  type InodeHeader,
  LEAF_ENTRIES,
  LEAVES_MAX,
  leafName,
  ROOT_BYTES,
  rootName,
} from './inode-format.ts';

/** The entries of a root or of a leaf: vids, 0 for none. */
export type Entries = Uint32Array<ArrayBuffer>;

/**
 * Writes the root of a new inode; settles when it survives a power cut.
 * @param entries  the leaves it begins with, those of its parent; none: an empty disk
 */
export async function makeRoot(
  store: ObjectStore,
  header: InodeHeader,
  call: ObjectWriteCall,
  entries: Entries = new Uint32Array(0),
): Promise<void> {
  const name = rootName(header.vid, header.family);
  const used = entries.findLastIndex((owner) => owner !== 0) + 1;
  const bytes = new Uint8Array(BLOCK_BYTES + roundUp(used * 4, BLOCK_BYTES));
  bytes.set(encodeInodeHeader(header));
  bytes.set(new Uint8Array(entries.buffer, entries.byteOffset, used * 4), BLOCK_BYTES);
  await store.write(name, 0, bytes, { ...call, createBytes: ROOT_BYTES });
  await store.flush(header.vid, [name]);
}

/**
 * @returns its entries, as many as there can be leaves
 * @throws SheepError `ERR_MISSING` if it was never finished, `ERR_CORRUPT` if it is not the inode
 *         of this VDI
 */
export async function readRoot(store: ObjectStore, expected: InodeHeader): Promise<Entries> {
  const name = rootName(expected.vid, expected.family);
  const header = new Uint8Array(BLOCK_BYTES);
  await store.read(name, 0, header);
  if (header.every((byte) => byte === 0)) {
    const { vid } = expected;
    throw new SheepError('ERR_MISSING', `the inode of vid ${vid} was never written`, { vid });
  }
  const found = decodeInodeHeader(header);
  for (const field of ['vid', 'family', 'objectBytes'] as const) {
    if (found[field] === expected[field]) continue;
    throw new SheepError(
      'ERR_CORRUPT',
      `the inode of vid ${expected.vid} says ${field} ${found[field]}, ` +
        `its record says ${expected[field]}`,
      { vid: expected.vid },
    );
  }
  const entries = new Uint32Array(LEAVES_MAX);
  await store.read(name, BLOCK_BYTES, new Uint8Array(entries.buffer));
  return entries;
}

/** One entry of a root: the vid that owns a leaf. @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
export async function readRootEntry(
  store: ObjectStore,
  { vid, family }: Pick<InodeHeader, 'vid' | 'family'>,
  leaf: number,
): Promise<Vid> {
  const bytes = new Uint8Array(4);
  await store.read(rootName(vid, family), BLOCK_BYTES + leaf * 4, bytes);
  return new Uint32Array(bytes.buffer)[0] as Vid;
}

/** @param owner  the vid that owns the leaf @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
export async function readLeaf(
  store: ObjectStore,
  owner: Vid,
  family: Vid,
  leaf: number,
): Promise<Entries> {
  const entries = new Uint32Array(LEAF_ENTRIES);
  await store.read(leafName(owner, family, leaf), 0, new Uint8Array(entries.buffer));
  return entries;
}
