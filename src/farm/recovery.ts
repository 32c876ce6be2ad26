import { isFault } from '../base/errors.ts';
import type { ObjectName } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import type { BlockSums } from './checksums.ts';
import type { JournalScan } from './journal-scan.ts';
import { createObject } from './load.ts';
import {
  blocksOf,
  dataAtOf,
  decodeHeader,
  HEADER_BYTES,
  objectDirectory,
  objectPath,
  originsAtOf,
  pagesOf,
} from './object-format.ts';
import { Origins } from './origins.ts';
import { type JournalBlock, type RedoObject, readRedoBlock } from './redo.ts';

/**
 * After a power cut: does again what flushes promised and the journal still owes. Every object it
 * touches is on the activity log, so tables are made anew when the object is first opened; only
 * data is written here. Can be cut and run again.
 */
export async function redoJournal(
  disk: Disk,
  directory: string,
  scan: JournalScan,
  sums: BlockSums,
): Promise<{ objects: number; blocks: number }> {
  const journals = new JournalFiles(disk);
  const directories = new Set<string>();
  let blocks = 0;
  try {
    await finishRemovals(disk, directory, scan);
    for (const object of scan.redo.values()) {
      directories.add(objectDirectory(directory, object.name));
      if (object.removed === undefined)
        blocks += await redoObject(disk, directory, object, sums, journals);
    }
  } finally {
    journals.closeNow();
  }
  for (const path of directories) await disk.syncDirectory(path);
  return { objects: scan.redo.size, blocks };
}

/** Journals that stay open for as long as they are read from. */
class JournalFiles {
  readonly #disk: Disk;
  readonly #files = new Map<string, DiskFile>();

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  async read(from: JournalBlock, name: ObjectName): Promise<Uint8Array> {
    let file = this.#files.get(from.path);
    if (file === undefined) {
      file = await this.#disk.open(from.path);
      this.#files.set(from.path, file);
    }
    return readRedoBlock(file, from, name);
  }

  closeNow(): void {
    for (const file of this.#files.values()) file.closeNow();
  }
}

async function redoObject(
  disk: Disk,
  directory: string,
  object: RedoObject,
  sums: BlockSums,
  journals: JournalFiles,
): Promise<number> {
  const origins = await originsOf(object, journals);
  await using file = await present(disk, directory, object, sums, origins);
  // One that was never stable may have its header and not what it inherits.
  if (origins !== undefined) await file.write(originsAtOf(object.objectBytes), origins.bytes);
  await clearZeroed(file, object);
  const dataAt = dataAtOf(object.objectBytes);
  for (const [block, { from }] of object.blocks) {
    const at = dataAt + block * BLOCK_BYTES;
    if (from === 'hole') await file.punch(at, BLOCK_BYTES);
    else await file.write(at, await journals.read(from, object.name));
  }
  await file.sync();
  return object.blocks.size;
}

/** The object's file in the life that the journal speaks of: another one is made anew. */
async function present(
  disk: Disk,
  directory: string,
  object: RedoObject,
  sums: BlockSums,
  origins: Origins | undefined,
): Promise<DiskFile> {
  const path = objectPath(directory, object.name);
  if (object.made === undefined) return disk.open(path);
  if ((await lifeOf(disk, path)) === object.made.life) return disk.open(path);
  const { name, stamp, objectBytes } = object;
  const made = { name, stamp, objectBytes, life: object.made.life };
  return (await createObject(disk, directory, made, sums, origins)).file;
}

/** What the object inherits if it was made and may never have become stable. */
async function originsOf(
  { name, objectBytes, made }: RedoObject,
  journals: JournalFiles,
): Promise<Origins | undefined> {
  if (made === undefined || made.origins.size === 0) return undefined;
  const bytes = new Uint8Array(pagesOf(objectBytes) * BLOCK_BYTES);
  for (const [page, from] of made.origins) {
    bytes.set(await journals.read(from, name), page * BLOCK_BYTES);
  }
  return new Origins(new Uint32Array(bytes.buffer, 0, blocksOf(objectBytes)));
}

/**
 * Takes what is zeroed out of what the object's file says it inherits. Which blocks are inherited its
 * data says, when it is opened: it is a suspect.
 */
async function clearZeroed(file: DiskFile, { objectBytes, zeroed }: RedoObject): Promise<void> {
  if (zeroed.length === 0) return;
  const origins = await Origins.read(file, objectBytes);
  for (const { first, end } of zeroed) origins.clear(first, end);
  await file.write(originsAtOf(objectBytes), origins.bytes);
}

async function lifeOf(disk: Disk, path: string): Promise<bigint | undefined> {
  try {
    await using file = await disk.open(path);
    const bytes = new Uint8Array(HEADER_BYTES);
    await file.read(0, bytes);
    return decodeHeader(bytes).life;
  } catch (error) {
    if (isFault(error, 'ERR_NOT_FOUND') || isFault(error, 'ERR_CORRUPT')) return undefined;
    throw error;
  }
}

/** What the journal says is gone may still have its file: a removal is stable before it is done. */
export async function finishRemovals(
  disk: Disk,
  directory: string,
  scan: JournalScan,
): Promise<void> {
  for (const [key, { name, removed }] of scan.redo) {
    if (removed === undefined) continue;
    const path = objectPath(directory, name);
    if (await disk.exists(path)) await disk.remove(path);
    const listed = scan.listed.get(key);
    if (listed !== undefined) listed.suspect = false;
  }
}

/**
 * After a kill the page cache is newer than the journal but for one thing: what it says is zeroed may
 * still be inherited by what the file says, and zeroes in the data would be taken for just that.
 */
export async function finishZeroed(
  disk: Disk,
  directory: string,
  scan: JournalScan,
): Promise<void> {
  for (const object of scan.redo.values()) {
    if (object.zeroed.length === 0) continue;
    await using file = await disk.open(objectPath(directory, object.name));
    await clearZeroed(file, object);
  }
}
