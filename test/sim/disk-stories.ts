import { KiB } from '../../src/base/units.ts';
import type { Disk, DiskFile } from '../../src/contracts/disk.ts';
import type { Survival } from '../../src/sim/fate.ts';
import { type Cuttable, SimDisk, type SimDiskOptions } from '../../src/sim/sim-disk.ts';
import type { DiskDelay, DiskOperation } from '../../src/sim/sim-process.ts';
import { simRandom } from '../../src/sim/sim-random.ts';

export const BLOCK = 4 * KiB;

export const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

/** A disk with the directory /store and in it the open file a, whose name is certain. */
export async function withFile(
  options: SimDiskOptions = {},
): Promise<{ disk: SimDisk; file: DiskFile }> {
  const disk = new SimDisk({ directories: ['/store'], ...options });
  const file = await disk.open('/store/a', { create: true });
  await disk.syncDirectory('/store');
  return { disk, file };
}

/** Operations of these kinds, on one path or on all, stay under way until they are let go. */
export function holding(path?: string): {
  delay: DiskDelay;
  hold(...kinds: DiskOperation[]): void;
  letGo(): void;
} {
  const held = new Set<DiskOperation>();
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    delay: async (operation, at) =>
      held.has(operation) && (path ?? at) === at ? promise : undefined,
    hold: (...kinds) => {
      for (const kind of kinds) held.add(kind);
    },
    letGo: resolve,
  };
}

export async function readAll(disk: Disk, path = '/store/a'): Promise<Uint8Array> {
  await using file = await disk.open(path);
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  return bytes;
}

/** What `look` sees after many cuts of one state, each once, in order. */
export async function afterCuts(
  disk: Cuttable,
  look: (disk: SimDisk) => Promise<string>,
  cuts = 300,
): Promise<string[]> {
  const random = simRandom(1);
  const seen = new Set<string>();
  const survivals: Survival[] = ['nothing', 'everything', ...Array(cuts).fill(random)];
  for (const survival of survivals) seen.add(await look(disk.powerCut(survival)));
  return [...seen].sort();
}

/** The first byte of each block of the file a, such as "1 2". */
export async function blocks(disk: SimDisk): Promise<string> {
  const bytes = await readAll(disk);
  return Array.from({ length: bytes.length / BLOCK }, (_, index) => bytes[index * BLOCK]).join(' ');
}

export const names = async (disk: SimDisk) => (await disk.list('/store')).join(' ');

/** Two blocks of ones, synced. */
export async function withOnes(
  options?: SimDiskOptions,
): Promise<{ disk: SimDisk; file: DiskFile }> {
  const story = await withFile(options);
  story.file.writeNow(0, filled(2 * BLOCK, 1));
  await story.file.sync();
  return story;
}
