import { isFault, SheepError } from '../base/errors.ts';
import { KiB } from '../base/units.ts';
import type { Disk } from '../contracts/disk.ts';

const SMALL_FILE_BYTES_MAX = 64 * KiB;

/** The text of a small file; undefined if it does not exist. */
export async function readSmallFile(disk: Disk, path: string): Promise<string | undefined> {
  try {
    await using file = await disk.open(path);
    const bytes = new Uint8Array(Math.min(await file.size(), SMALL_FILE_BYTES_MAX + 1));
    const length = await file.read(0, bytes);
    if (length > SMALL_FILE_BYTES_MAX) {
      throw new SheepError('ERR_CORRUPT', `${path} is larger than it can be`, { path });
    }
    return new TextDecoder().decode(bytes.subarray(0, length));
  } catch (error) {
    if (isFault(error, 'ERR_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Replaces a small file: whoever reads it finds the old text or the new one, whole. */
export async function writeSmallFile(disk: Disk, path: string, text: string): Promise<void> {
  const draft = `${path}.draft`;
  {
    await using file = await disk.open(draft, { create: true, truncate: true });
    await file.write(0, new TextEncoder().encode(text));
    await file.sync();
  }
  await disk.rename(draft, path);
  await disk.syncDirectory(path.slice(0, Math.max(path.lastIndexOf('/'), 1)));
}
