import { assert } from '../../base/assert.ts';
import { Reader, Writer } from '../../base/bytes.ts';
import { isFault } from '../../base/errors.ts';
import { type ObjectName, oidBits, oidParts, type Stamp } from '../../base/ids.ts';
import { checkVersion, damaged } from './pack-format.ts';

/**
 * The bytes of the list in the snap of an epoch (FORMATS.md), big-endian: version u16 | reserved u16
 * | count u32 | for each object, by ascending oid: oid u64 | slot u32 | bytes u32 | epoch u32 |
 * attach epoch u32.
 */
const LIST_VERSION = 1;
const LIST_HEADER_BYTES = 8;
const RECORD_BYTES = 24;

/** An object that an epoch left behind: this node holds it, and serves it no longer. */
export interface StaleObject {
  readonly name: ObjectName;
  /** When it was last written here. */
  readonly stamp: Stamp;
  /** Its size. */
  readonly bytes: number;
}

/** Negative if `one` stands before `other`. */
export function compareOids(one: ObjectName, other: ObjectName): number {
  return one.kind - other.kind || one.vid - other.vid || one.index - other.index;
}

/** @param objects  by ascending oid, none twice */
export function encodeStaleList(objects: readonly StaleObject[]): Uint8Array {
  const writer = new Writer(LIST_HEADER_BYTES + objects.length * RECORD_BYTES);
  writer.u16(LIST_VERSION).u16(0).u32(objects.length);
  let before: ObjectName | undefined;
  for (const { name, stamp, bytes } of objects) {
    assert(before === undefined || compareOids(before, name) < 0, 'objects ascend by their oids');
    before = name;
    writer.u64(oidBits(name)).u32(name.slot).u32(bytes).u32(stamp.epoch).u32(stamp.attachEpoch);
  }
  return writer.done();
}

/**
 * @param place  for messages
 * @throws SheepError `ERR_VERSION`, `ERR_CORRUPT`
 */
export function decodeStaleList(list: Uint8Array, place: string): StaleObject[] {
  try {
    return decode(new Reader(list), place);
  } catch (error) {
    if (isFault(error, 'ERR_BAD_FRAME')) throw damaged(place, error.message);
    throw error;
  }
}

function decode(reader: Reader, place: string): StaleObject[] {
  checkVersion(place, reader.u16('version'), LIST_VERSION);
  if (reader.u16('reserved') !== 0) throw damaged(place, 'it says what nobody knows');
  const count = reader.u32('count');
  if (reader.left !== count * RECORD_BYTES) throw damaged(place, 'its length is wrong');
  const objects: StaleObject[] = [];
  for (let each = 0; each < count; each += 1) {
    const parts = oidParts(reader.u64('oid'));
    const name = { ...parts, slot: reader.u32('slot') };
    const bytes = reader.u32('bytes');
    const stamp = { epoch: reader.u32('epoch'), attachEpoch: reader.u32('attach epoch') };
    const before = objects.at(-1);
    if (before !== undefined && compareOids(before.name, name) >= 0) {
      throw damaged(place, 'its objects do not ascend');
    }
    if (bytes === 0) throw damaged(place, 'an object in it has no size');
    objects.push({ name, stamp, bytes });
  }
  return objects;
}
