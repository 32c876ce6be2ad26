import { crc32 } from 'node:zlib';
import { isFault, SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import { type BlockSums, INHERITED } from './checksums.ts';
import { blocksOf, type ObjectHeader, objectPath } from './object-format.ts';
import {
  damaged,
  giveHead,
  headerIn,
  tableBehind,
  tableNow,
  takeHead,
  withHead,
} from './object-head.ts';
import type { OpenObject } from './open-object.ts';
import { Origins } from './origins.ts';
import { type Loaded, make, rebuild, type Suspect } from './rebuild.ts';
import { takeTable } from './tables.ts';

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
      const table = await tableBehind(head, file, header);
      const inherits = header.originSums.length > 0;
      const origins = inherits ? await Origins.read(file, header.objectBytes) : undefined;
      return { object: proven(file, header, table, sums, origins), adopted: 0 };
    });
  } catch (error) {
    file.closeNow();
    throw error;
  }
}

/**
 * The same at once, of an object that is not suspect, if everything that is read of it is in the
 * page cache. Undefined says nothing: `loadObject` tells.
 */
export function loadObjectNow(
  disk: Disk,
  directory: string,
  name: ObjectName,
  sums: BlockSums,
): OpenObject | undefined {
  const file = disk.openCachedNow(objectPath(directory, name));
  if (file === undefined) return undefined;
  const object = provenNow(file, name, sums);
  if (object === undefined) file.closeNow();
  return object;
}

function provenNow(file: DiskFile, name: ObjectName, sums: BlockSums): OpenObject | undefined {
  const head = takeHead();
  try {
    const got = file.readNow(0, head);
    if (got < 0) return undefined;
    head.fill(0, got);
    const header = headerIn(head, got, name);
    const table = tableNow(head, file, header);
    if (table === undefined) return undefined;
    if (header.originSums.length === 0) return proven(file, header, table, sums);
    const origins = Origins.readNow(file, header.objectBytes);
    return origins && proven(file, header, table, sums, origins);
  } catch {
    return undefined;
  } finally {
    giveHead(head);
  }
}

/** @throws SheepError `ERR_CORRUPT` if table or origins are not what the header says */
function proven(
  file: DiskFile,
  header: ObjectHeader,
  table: Uint32Array<ArrayBuffer>,
  sums: BlockSums,
  origins?: Origins,
): OpenObject {
  const bytes = new Uint8Array(table.buffer);
  const good = header.pageSums.every((sum, page) => {
    const at = page * BLOCK_BYTES;
    return crc32(bytes.subarray(at, at + BLOCK_BYTES)) === sum;
  });
  const { name } = header;
  if (!good) throw damaged(name, 'its table of checksums does not fit its header');
  if (origins?.fits(header.originSums) === false) {
    throw damaged(name, 'what it inherits does not fit its header');
  }
  return make(file, header, table, sums, origins);
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
    throw missing(name);
  }
}

export function missing(name: ObjectName): SheepError {
  const oid = formatOid(name);
  return new SheepError('ERR_MISSING', `object ${oid} is not in the store`, { oid });
}
