import { isFault } from '../base/errors.ts';
import { KiB } from '../base/units.ts';
import type { Disk } from '../contracts/disk.ts';

/** The text of a small file, of which 64 KiB are read; undefined if it does not exist. */
export async function readText(disk: Disk, path: string): Promise<string | undefined> {
  try {
    await using file = await disk.open(path, { readOnly: true });
    const bytes = new Uint8Array(Math.min(await file.size(), 64 * KiB));
    await file.read(0, bytes);
    return new TextDecoder().decode(bytes);
  } catch (error) {
    if (isFault(error, 'ERR_NOT_FOUND')) return undefined;
    throw error;
  }
}

export function replaceText(disk: Disk, path: string, text: string): Promise<void> {
  return replaceFile(disk, path, new TextEncoder().encode(text));
}

/** Whoever reads it finds the old bytes or the new ones, whole; stable when this settles. */
export async function replaceFile(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.draft`;
  {
    await using file = await disk.open(draft, { create: true, truncate: true });
    await file.write(0, bytes);
    await file.sync();
  }
  await disk.rename(draft, path);
  await disk.syncDirectory(path.slice(0, Math.max(path.lastIndexOf('/'), 1)));
}
