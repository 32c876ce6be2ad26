import { writeFile } from 'node:fs/promises';

/** Empties the page cache of the machine. @returns false where only root may */
export async function forgetPages(): Promise<boolean> {
  try {
    await writeFile('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}
