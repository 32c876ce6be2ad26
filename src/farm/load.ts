import { crc32 } from 'node:zlib';
import { isFault, SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName, objectKey, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import { type BlockSums, HOLE, INHERITED, isZero, proves } from './checksums.ts';
import { SCAN_BYTES } from './limits.ts';
import {
  blocksOf,
  dataAtOf,
  decodeHeader,
  HEADER_BYTES,
  type ObjectHeader,
  objectPath,
} from './object-format.ts';
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

/**
 * Opens an object and proves its header and table. A suspect is not held to its table, because the
 * table may be older than the data (or newer, after a power cut): alone it is what the disk says,
 * so its table is made anew from its data.
 * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`, `ERR_VERSION`, `ERR_IO`
 */
export async function loadObject(
  disk: Disk,
  directory: string,
  name: ObjectName,
  sums: BlockSums,
  suspect: Suspect | undefined,
): Promise<Loaded> {
  const file = await openPresent(disk, directory, name);
  try {
    if (suspect !== undefined) return await rebuild(file, name, sums, suspect);
    return await withHead(file, async (head, got) => {
      const header = headerIn(head, got, name);
      const { table, good } = await tableBehind(head, file, header);
      if (!good) throw damaged(name, 'its table of checksums does not fit its header');
      if (header.originSums.length === 0) {
        return { object: make(file, header, table, sums), adopted: 0 };
      }
      const origins = await Origins.read(file, header.objectBytes);
      if (!origins.fits(header.originSums)) {
        throw damaged(name, 'what it inherits does not fit its header');
      }
      return { object: make(file, header, table, sums, origins), adopted: 0 };
    });
  } catch (error) {
    file.closeNow();
    throw error;
  }
}

/**
 * Makes an object of zeroes, or of what it inherits. What its name held before goes with its file,
 * not by truncation: so no block of an earlier life can come back under the new header after a power
 * cut. Nothing is on the medium yet.
 */
export async function createObject(
  disk: Disk,
  directory: string,
  made: Suspect,
  sums: BlockSums,
  origins?: Origins,
): Promise<OpenObject> {
  const path = objectPath(directory, made.name);
  const file = await openFresh(disk, path);
  try {
    const table = takeTable(blocksOf(made.objectBytes));
    if (origins !== undefined) {
      for (const block of table.keys()) if (origins.vidOf(block) !== 0) table[block] = INHERITED;
      origins.dirty = true;
    }
    const object = make(file, made, table, sums, origins);
    object.nameStable = false;
    object.writeMeta();
    object.metaDirty = true;
    return object;
  } catch (error) {
    file.closeNow();
    await disk.remove(path);
    throw error;
  }
}

async function openFresh(disk: Disk, path: string): Promise<DiskFile> {
  try {
    return await disk.open(path, { create: true, exclusive: true });
  } catch (error) {
    if (!isFault(error, 'ERR_EXISTS')) throw error;
    await disk.remove(path);
    return disk.open(path, { create: true, exclusive: true });
  }
}

async function openPresent(disk: Disk, directory: string, name: ObjectName): Promise<DiskFile> {
  try {
    return await disk.open(objectPath(directory, name));
  } catch (error) {
    if (!isFault(error, 'ERR_NOT_FOUND')) throw error;
    const oid = formatOid(name);
    throw new SheepError('ERR_MISSING', `object ${oid} is not in the store`, { oid });
  }
}

/** Header and table of most objects, in one read. */
const HEAD_BYTES = HEADER_BYTES + BLOCK_BYTES;
/** Objects are opened too often for garbage of this size. */
const heads: Uint8Array[] = [];
const HEADS_MAX = 16;

/** Lends `use` the beginning of the file, with zeroes behind its end. */
async function withHead<T>(
  file: DiskFile,
  use: (head: Uint8Array, got: number) => T | Promise<T>,
): Promise<T> {
  const head = heads.pop() ?? new Uint8Array(HEAD_BYTES);
  let got = file.readNow(0, head);
  if (got < 0) got = await file.read(0, head);
  head.fill(0, got);
  const used = await use(head, got);
  if (heads.length < HEADS_MAX) heads.push(head);
  return used;
}

function headerIn(head: Uint8Array, got: number, name: ObjectName): ObjectHeader {
  try {
    const header = decodeHeader(head.subarray(0, Math.min(got, HEADER_BYTES)));
    if (formatOid(header.name) !== formatOid(name)) {
      throw damaged(name, `its header names ${formatOid(header.name)}`);
    }
    return header;
  } catch (error) {
    if (error instanceof SheepError && error.code === 'ERR_CORRUPT') {
      throw damaged(name, error.message);
    }
    throw error;
  }
}

async function tableBehind(
  head: Uint8Array,
  file: DiskFile,
  header: ObjectHeader,
): Promise<{ table: Uint32Array<ArrayBuffer>; good: boolean }> {
  const table = takeTable(blocksOf(header.objectBytes));
  const bytes = new Uint8Array(table.buffer);
  if (bytes.length <= BLOCK_BYTES) bytes.set(head.subarray(HEADER_BYTES));
  else if (file.readNow(HEADER_BYTES, bytes) < 0) await file.read(HEADER_BYTES, bytes);
  const good = header.pageSums.every((sum, page) => {
    const at = page * BLOCK_BYTES;
    return crc32(bytes.subarray(at, at + BLOCK_BYTES)) === sum;
  });
  return { table, good };
}

async function rebuild(
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
    const { table } = await tableBehind(head, file, header);
    return { header, table };
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

function make(
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

function damaged(name: ObjectName, why: string): SheepError {
  const oid = formatOid(name);
  return new SheepError('ERR_CORRUPT', `object ${oid} is damaged: ${why}`, { oid });
}
