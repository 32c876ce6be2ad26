import { isFault } from '../base/errors.ts';
import { type ObjectName, objectKey, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { type BlockSums, HOLE, INHERITED, isZero, proves } from './checksums.ts';
import { SCAN_BYTES } from './limits.ts';
import { blocksOf, dataAtOf, type ObjectHeader } from './object-format.ts';
import { headerIn, tableBehind, withHead } from './object-head.ts';
import { OpenObject } from './open-object.ts';
import { Origins } from './origins.ts';
import { giveTable, takeTable } from './tables.ts';

/** What the activity log knows of an object that may differ from its own table. */
export interface Suspect {
  readonly name: ObjectName;
  readonly stamp: Stamp;
  readonly objectBytes: number;
  readonly life: bigint;
}

export interface Loaded {
  readonly object: OpenObject;
  /** Blocks of a suspect whose checksum was in flight: now what the disk says. */
  readonly adopted: number;
}

/** Makes the table of a suspect anew from its data. @throws SheepError `ERR_VERSION`, `ERR_IO` */
export async function rebuild(
  file: DiskFile,
  name: ObjectName,
  sums: BlockSums,
  suspect: Suspect,
): Promise<Loaded> {
  const old = await withHead(file, (head, got) => headIfAny(head, got, file, name));
  const objectBytes = old?.header.objectBytes ?? suspect.objectBytes;
  const before = old?.table ?? takeTable(blocksOf(objectBytes));
  const table = takeTable(blocksOf(objectBytes));
  const origins = await originsOfSuspect(file, objectBytes, old?.header);
  const adopted = await scan(file, { objectBytes, before, table, sums, origins });
  giveTable(before);
  const header = {
    name,
    objectBytes,
    stamp: suspect.stamp,
    life: old?.header.life ?? suspect.life,
  };
  const object = make(file, header, table, sums, origins);
  object.verified.addRange(0, table.length);
  object.metaDirty = true;
  return { object, adopted };
}

/**
 * Not held to the header: they were there before the object was, and a `zeroed` that is owed has been
 * done. Without a header they speak for themselves.
 */
async function originsOfSuspect(
  file: DiskFile,
  objectBytes: number,
  header: ObjectHeader | undefined,
): Promise<Origins | undefined> {
  if (header !== undefined && header.originSums.length === 0) return undefined;
  const origins = await Origins.read(file, objectBytes);
  return header === undefined && origins.none ? undefined : origins;
}

/** Its table may be any. */
async function headIfAny(
  head: Uint8Array,
  got: number,
  file: DiskFile,
  name: ObjectName,
): Promise<{ header: ObjectHeader; table: Uint32Array<ArrayBuffer> } | undefined> {
  try {
    const header = headerIn(head, got, name);
    return { header, table: await tableBehind(head, file, header) };
  } catch (error) {
    if (isFault(error, 'ERR_CORRUPT')) return undefined;
    throw error;
  }
}

/**
 * Fills `table` from the data; returns how many blocks were not what `before` says. Zeroes where
 * something is inherited mean just that, whatever it says: else the journal would have told.
 */
async function scan(
  file: DiskFile,
  {
    objectBytes,
    before,
    table,
    sums,
    origins,
  }: {
    objectBytes: number;
    before: Uint32Array;
    table: Uint32Array;
    sums: BlockSums;
    origins: Origins | undefined;
  },
): Promise<number> {
  const buffer = new Uint8Array(Math.min(SCAN_BYTES, roundUp(objectBytes, BLOCK_BYTES)));
  let adopted = 0;
  for (let at = 0; at < objectBytes; at += buffer.length) {
    buffer.fill(0);
    await file.read(dataAtOf(objectBytes) + at, buffer);
    const first = at / BLOCK_BYTES;
    const end = Math.min(table.length, first + buffer.length / BLOCK_BYTES);
    for (let block = first; block < end; block += 1) {
      const offset = (block - first) * BLOCK_BYTES;
      const bytes = buffer.subarray(offset, offset + BLOCK_BYTES);
      const entry = before[block] as number;
      if (origins !== undefined && origins.vidOf(block) !== 0 && isZero(bytes)) {
        table[block] = INHERITED;
      } else if (entry !== INHERITED && proves(entry, bytes)) table[block] = entry;
      else if (isZero(bytes)) table[block] = HOLE;
      else sums(bytes, table, block);
      if (table[block] !== entry) adopted += 1;
    }
  }
  return adopted;
}

export function make(
  file: DiskFile,
  header: Suspect,
  table: Uint32Array<ArrayBuffer>,
  sums: BlockSums,
  origins?: Origins,
): OpenObject {
  const { name, objectBytes, life, stamp } = header;
  const key = objectKey(name.kind, name.vid, name.index);
  return new OpenObject({ key, name, objectBytes, life, stamp, file, table, sums, origins });
}
