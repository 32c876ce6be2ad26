import { KIND } from '../base/ids.ts';
import type { Disk } from '../contracts/disk.ts';
import { objectDirectory } from './object-format.ts';

/** True if a store holds no object; it may not even exist. */
export async function storeIsEmpty(disk: Disk, directory: string): Promise<boolean> {
  for (let index = 0; index < 256; index += 1) {
    const names = await disk.list(
      objectDirectory(directory, { kind: KIND.data, vid: 1, index, slot: 0 }),
    );
    if (names.length > 0) return false;
  }
  return true;
}
