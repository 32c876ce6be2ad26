import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import { INDEXES_MAX, KIND, type ObjectName, slotOf, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';

/**
 * The inode of a VDI (FORMATS.md, "Inode"): which vid owns each object, as a tree of two levels. The
 * root names the vid that owns each leaf, a leaf the vid that owns each object; 0: a hole. Both
 * levels are small objects of kind `inode`, so that a snapshot copies one root and no leaf.
 */
const INODE_MAGIC = 0x53_48_50_49; // "SHPI"
const INODE_VERSION = 2;
export const LEAF_ENTRIES = 2 ** 14;
/** As many as the largest VDI has: so the root keeps its size when the disk gets another. */
export const LEAVES_MAX = INDEXES_MAX / LEAF_ENTRIES;
export const ROOT_BYTES = BLOCK_BYTES + LEAVES_MAX * 4;
export const LEAF_BYTES = LEAF_ENTRIES * 4;
const ENTRIES_PER_BLOCK = BLOCK_BYTES / 4;

/**
 * What the root says of its disk besides its entries: enough to find it without the coordinator. The
 * size is that of the moment when the root was made: the record's is the one that counts.
 */
export interface InodeHeader {
  readonly vid: Vid;
  readonly family: Vid;
  readonly sizeBytes: number;
  readonly objectBytes: number;
}

/** Index 0 is the root, leaf n has index n + 1; their slots follow from family and path. */
export function rootName(vid: Vid, family: Vid): ObjectName {
  return nodeName(vid, family, 0);
}
export function leafName(vid: Vid, family: Vid, leaf: number): ObjectName {
  return nodeName(vid, family, leaf + 1);
}
function nodeName(vid: Vid, family: Vid, index: number): ObjectName {
  return { kind: KIND.inode, vid, index, slot: slotOf(family, INDEXES_MAX + index) };
}

/** Where the block that holds entry `index` begins among the entries, in bytes. */
export function entryBlockAt(index: number): number {
  return Math.floor(index / ENTRIES_PER_BLOCK) * BLOCK_BYTES;
}

/** The root's first block; its entries follow, little-endian u32 each. */
export function encodeInodeHeader(header: InodeHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Writer(BLOCK_BYTES)
    .u32(INODE_MAGIC)
    .u32(INODE_VERSION)
    .u32(header.vid)
    .u32(header.family)
    .u64(header.sizeBytes)
    .u32(header.objectBytes)
    .zeroes(BLOCK_BYTES - 32)
    .u32(0)
    .done();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(BLOCK_BYTES - 4, crc32(bytes.subarray(0, BLOCK_BYTES - 4)));
  return bytes;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodeInodeHeader(bytes: Uint8Array): InodeHeader {
  const reader = new Reader(bytes.subarray(0, BLOCK_BYTES));
  if (bytes.length < BLOCK_BYTES || reader.u32('magic') !== INODE_MAGIC) {
    throw new SheepError('ERR_CORRUPT', 'not an inode');
  }
  const version = reader.u32('version');
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (crc32(bytes.subarray(0, BLOCK_BYTES - 4)) !== view.getUint32(BLOCK_BYTES - 4)) {
    throw new SheepError('ERR_CORRUPT', 'inode checksum does not fit');
  }
  if (version !== INODE_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `the inode is of format ${version}, this sheep reads ${INODE_VERSION}`,
      { found: version, known: INODE_VERSION },
    );
  }
  return {
    vid: reader.u32('vid'),
    family: reader.u32('family'),
    sizeBytes: reader.size('size'),
    objectBytes: reader.u32('object size'),
  };
}
