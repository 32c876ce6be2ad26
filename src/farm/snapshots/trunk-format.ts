import { assert } from '../../base/assert.ts';
import { NAME_BYTES, ZERO_NAME } from '../../base/content.ts';
import { checkVersion, damaged } from './pack-format.ts';

/** The payload of a `trunk` object (FORMATS.md): version u16 | level u16 | names u32 | names. */
const TRUNK_VERSION = 1;
const TRUNK_HEADER_BYTES = 8;

/** How many nodes of the level below an inner node names. */
export const FANOUT = 128;

/**
 * Where a disk's slices stand in its tree. A leaf, level 0, names the slices of one object of the
 * disk; a node of level n names `FANOUT` of level n - 1. The tree is as low as the disk allows.
 */
export interface TrunkShape {
  readonly sizeBytes: number;
  readonly sliceBytes: number;
  readonly leafSlices: number;
  /** How many leaves the disk has. */
  readonly leaves: number;
  /** Level of the root. */
  readonly rootLevel: number;
}

/** @param objectBytes  what a leaf stands for; a smaller one than a slice stands for one slice */
export function trunkShape(sizeBytes: number, objectBytes: number, sliceBytes: number): TrunkShape {
  const leafSlices = Math.max(1, objectBytes / sliceBytes);
  assert(Number.isInteger(leafSlices), 'objects and slices are powers of two');
  const leaves = Math.max(1, Math.ceil(sizeBytes / (leafSlices * sliceBytes)));
  let rootLevel = 0;
  for (let reach = 1; reach < leaves; reach *= FANOUT) rootLevel += 1;
  return { sizeBytes, sliceBytes, leafSlices, leaves, rootLevel };
}

/** How many nodes of this level a disk has. */
export function nodesOfLevel({ leaves }: TrunkShape, level: number): number {
  return Math.ceil(leaves / FANOUT ** level);
}

/**
 * The payload; undefined if all of it is zeroes, and so is what it stands for.
 * @param names  of equal length each; zeroes at the end are left out, so that a disk that grows
 *               keeps its nodes
 */
export function encodeTrunk(level: number, names: Uint8Array): Uint8Array | undefined {
  let length = names.length;
  while (length > 0 && isZeroName(names, length - NAME_BYTES)) length -= NAME_BYTES;
  if (length === 0) return undefined;
  const bytes = new Uint8Array(TRUNK_HEADER_BYTES + length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, TRUNK_VERSION);
  view.setUint16(2, level);
  view.setUint32(4, length / NAME_BYTES);
  bytes.set(names.subarray(0, length), TRUNK_HEADER_BYTES);
  return bytes;
}

/**
 * The names of a node, `count` of them, zeroes behind those that it has.
 * @throws SheepError `ERR_CORRUPT` if it is not such a node, `ERR_VERSION`
 */
export function decodeTrunk(
  bytes: Uint8Array,
  level: number,
  count: number,
  id: string,
): Uint8Array {
  const place = `trunk ${id}`;
  if (bytes.length < TRUNK_HEADER_BYTES) throw damaged(place, 'it is cut off');
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  checkVersion(place, view.getUint16(0), TRUNK_VERSION);
  const found = view.getUint16(2);
  if (found !== level) throw damaged(place, `it is of level ${found}, where ${level} must be`);
  const length = view.getUint32(4) * NAME_BYTES;
  if (TRUNK_HEADER_BYTES + length !== bytes.length) throw damaged(place, 'its length is wrong');
  const names = new Uint8Array(count * NAME_BYTES);
  if (length > names.length) throw damaged(place, 'it names more than the disk has');
  names.set(bytes.subarray(TRUNK_HEADER_BYTES));
  return names;
}

/** The name at a place; borrowed. */
export function nameAt(names: Uint8Array, place: number): Uint8Array {
  return names.subarray(place * NAME_BYTES, (place + 1) * NAME_BYTES);
}

export function isZeroName(names: Uint8Array, at = 0): boolean {
  for (let byte = at; byte < at + NAME_BYTES; byte += 1) if (names[byte] !== 0) return false;
  return true;
}

export function sameName(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

/** What stands for zeroes, in a piece of memory of its own. */
export function zeroName(): Uint8Array {
  return ZERO_NAME.slice();
}
