import { isFault } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import type { BlockSums } from './checksums.ts';
import { type JournalScan, type RedoObject, readRedoBlock } from './journal-scan.ts';
import { createObject } from './load.ts';
import {
  dataAtOf,
  decodeHeader,
  HEADER_BYTES,
  objectDirectory,
  objectPath,
} from './object-format.ts';

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
  const journals = new Map<string, DiskFile>();
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
    for (const file of journals.values()) file.closeNow();
  }
  for (const path of directories) await disk.syncDirectory(path);
  return { objects: scan.redo.size, blocks };
}

async function redoObject(
  disk: Disk,
  directory: string,
  object: RedoObject,
  sums: BlockSums,
  journals: Map<string, DiskFile>,
): Promise<number> {
  await using file = await present(disk, directory, object, sums);
  const dataAt = dataAtOf(object.objectBytes);
  for (const [block, { from }] of object.blocks) {
    const at = dataAt + block * BLOCK_BYTES;
    if (from === 'hole') {
      await file.punch(at, BLOCK_BYTES);
      continue;
    }
    let journal = journals.get(from.path);
    if (journal === undefined) {
      journal = await disk.open(from.path);
      journals.set(from.path, journal);
    }
    await file.write(at, await readRedoBlock(journal, from, object.name));
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
): Promise<DiskFile> {
  const path = objectPath(directory, object.name);
  if (object.made === undefined) return disk.open(path);
  if ((await lifeOf(disk, path)) === object.made.life) return disk.open(path);
  const { name, stamp, objectBytes } = object;
  const made = { name, stamp, objectBytes, life: object.made.life };
  return (await createObject(disk, directory, made, sums)).file;
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
