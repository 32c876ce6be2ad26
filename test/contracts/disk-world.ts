import { expect } from 'vitest';
import type { Disk, DiskFile } from '../../src/contracts/disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';

/** A disk and an empty directory on it. */
export interface DiskWorld extends AsyncDisposable {
  readonly disk: Disk;
  readonly root: string;
}

export type FreshDisk = () => Promise<DiskWorld>;

export const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

/** Distinct bytes, so that a piece from the wrong place shows. */
export const pattern = (length: number, seed = 1) => simRandom(seed).bytes(length);

/** Quick where they are equal, and telling where they are not. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what?: string): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual, what).toEqual(expected);
}

/** All of a file, by the way that never waits where it answers, and by the one that may. */
export async function contents(file: DiskFile): Promise<Uint8Array> {
  const size = await file.size();
  const bytes = new Uint8Array(size + 1);
  expect(await file.read(0, bytes)).toBe(size);
  const now = filled(size + 1, 0xee);
  const got = file.readNow(0, now);
  expect([size, -1]).toContain(got);
  if (got >= 0) expectBytes(now.subarray(0, size), bytes.subarray(0, size));
  return bytes.subarray(0, size);
}

export async function contentsOf(disk: Disk, path: string): Promise<Uint8Array> {
  await using file = await disk.open(path);
  return await contents(file);
}

export async function create(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  await using file = await disk.open(path, { create: true, exclusive: true });
  await file.write(0, bytes);
}
