import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { MiB } from '../src/base/units.ts';

/**
 * A raw image like that of a machine in use: runs of data that does not compress, of 1 to 16 MiB,
 * three fifths of the whole, and holes between. The same each time but for the data.
 */
export async function writeImage(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'w');
  const bytes = randomBytes(16 * MiB);
  for (let at = 0, run = 0; at < sizeBytes; run += 1) {
    const length = Math.min(((run * 7) % 16) * MiB + MiB, sizeBytes - at);
    if (run % 5 < 3) await file.write(bytes, 0, length, at);
    at += length;
  }
  await file.truncate(sizeBytes);
}
