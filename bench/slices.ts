import { createHash } from 'node:crypto';
import { type FileHandle, open, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { contentWork } from '../src/base/content.ts';
import { BLOCK_BYTES, GiB, KiB, MiB } from '../src/base/units.ts';
import type { Options } from './options.ts';
import { bytesBelow, resticRepository } from './restic.ts';
import { rootImage } from './root-image.ts';
import type { Scope } from './scope.ts';
import { table } from './table.ts';

const OBJECT_BYTES = 4 * MiB;
/** Data of each image that is looked at, in whole objects from all over it. */
const SAMPLE_BYTES = 400 * MiB;
const SLICES = [32, 64, 128, 256].map((kib) => kib * KiB);
const LEVELS = [1, 3, 4, 6, 9];
/** Of a slice, besides what it compresses to: its header in a pack and its line in the index. */
const OVERHEAD_BYTES = 128;
const SCATTERED_SHARE = 0.01;

interface Row {
  readonly image: string;
  readonly sliceBytes: number;
  readonly level: number;
  /** Of the sample: what is not zero, what is stored of it, and CPU time to compress it. */
  readonly dataBytes: number;
  readonly storedBytes: number;
  readonly compressSeconds: number;
  readonly hashSeconds: number;
  /** What is stored anew when 1 % of the blocks change, here and there. */
  readonly scatteredBytes: number;
  /** restic's repository of the same sample, and what it grows by. */
  readonly resticBytes: number;
  readonly resticScatteredBytes: number;
}

/**
 * What slices of several sizes cost at several levels of zstd: space of a first backup and of a
 * second one after scattered changes, and processor time; beside restic on the same bytes.
 */
export async function slices(
  scope: Scope,
  { images, sizeBytes }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  const paths = images.length > 0 ? images : [await rootImage(scope, sizeBytes, say)];
  const rows: Row[] = [];
  for (const path of paths) {
    const before = await sampleOf(path);
    const after = scattered(before);
    const restic = await inRestic(scope, before, after);
    say(`${path}: restic ${mib(restic.first)}, then ${mib(restic.second)}`);
    for (const sliceBytes of SLICES) {
      const first = distinct([before], sliceBytes);
      const second = distinct([after], sliceBytes, first.names);
      for (const level of LEVELS) {
        const began = process.cpuUsage();
        const storedBytes = stored(first.slices, level);
        const compressSeconds = secondsSince(began);
        const scatteredBytes = stored(second.slices, level);
        const { dataBytes, hashSeconds } = first;
        rows.push({
          ...{ image: basename(path), sliceBytes, level, dataBytes, storedBytes },
          ...{ compressSeconds, hashSeconds, scatteredBytes },
          ...{ resticBytes: restic.first, resticScatteredBytes: restic.second },
        });
        say(`${sliceBytes / KiB} KiB, level ${level}: ${mib(storedBytes)}`);
      }
    }
  }
  return { rows, text: report(rows) };
}

/** Whole objects, evenly spread over the image, until there is enough that is not zero. */
async function sampleOf(path: string): Promise<Uint8Array> {
  await using image = await open(path, 'r');
  const { size } = await image.stat();
  const data: number[] = [];
  for (let at = 0; at + OBJECT_BYTES <= size; at += OBJECT_BYTES) {
    if (!isZero(await readAt(image, at))) data.push(at);
  }
  const wanted = Math.min(data.length, SAMPLE_BYTES / OBJECT_BYTES);
  const sample = new Uint8Array(wanted * OBJECT_BYTES);
  for (let nth = 0; nth < wanted; nth += 1) {
    const at = data[Math.floor((nth * data.length) / wanted)] as number;
    sample.set(await readAt(image, at), nth * OBJECT_BYTES);
  }
  return sample;
}

async function readAt(file: FileHandle, at: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(OBJECT_BYTES);
  await file.read(bytes, 0, OBJECT_BYTES, at);
  return bytes;
}

const ZEROES = Buffer.alloc(OBJECT_BYTES);
const isZero = (bytes: Uint8Array) => ZEROES.subarray(0, bytes.length).equals(bytes);

/** The same with one block in a hundred replaced by another one of the same disk, turned round. */
function scattered(bytes: Uint8Array): Uint8Array {
  const changed = bytes.slice();
  const blocks = bytes.length / BLOCK_BYTES;
  let drawn = 1;
  const draw = () => {
    // Numerical Recipes' generator: the same blocks each time.
    drawn = (Math.imul(drawn, 1664525) + 1013904223) >>> 0;
    return Math.floor((drawn / 2 ** 32) * blocks) * BLOCK_BYTES;
  };
  for (let left = blocks * SCATTERED_SHARE; left > 0; ) {
    const [to, from] = [draw(), draw()];
    if (isZero(bytes.subarray(to, to + BLOCK_BYTES))) continue;
    changed.set(bytes.slice(from, from + BLOCK_BYTES).reverse(), to);
    left -= 1;
  }
  return changed;
}

/** Slices that are neither zero nor known, each once. */
function distinct(disks: readonly Uint8Array[], sliceBytes: number, known = new Set<string>()) {
  const names = new Set(known);
  const slices: Uint8Array[] = [];
  let [dataBytes, hashSeconds] = [0, 0];
  for (const disk of disks) {
    for (let at = 0; at < disk.length; at += sliceBytes) {
      const slice = disk.subarray(at, at + sliceBytes);
      if (isZero(slice)) continue;
      dataBytes += slice.length;
      const began = process.cpuUsage();
      const name = createHash('sha256').update(slice).digest('base64');
      hashSeconds += secondsSince(began);
      if (names.has(name)) continue;
      names.add(name);
      slices.push(slice);
    }
  }
  return { names, slices, dataBytes, hashSeconds };
}

function stored(parts: readonly Uint8Array[], level: number): number {
  let total = 0;
  for (const part of parts) {
    const bytes = part.slice(); // it is compressed where it stands
    const job = { codec: 'zstd', level, sliceBytes: part.length, bytes, which: [0] } as const;
    for (const { length } of contentWork.compress(job)) total += length + OVERHEAD_BYTES;
  }
  return total;
}

const secondsSince = (began: NodeJS.CpuUsage) => {
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1e6;
};

async function inRestic(scope: Scope, before: Uint8Array, after: Uint8Array) {
  const repository = await resticRepository(scope, 'slices');
  const file = join(scope.directory, 'sample.raw');
  const sizes = [];
  for (const bytes of [before, after]) {
    await writeFile(file, bytes);
    await repository.backup(file);
    sizes.push(await bytesBelow(repository.directory));
  }
  await repository.remove();
  const [first = 0, both = 0] = sizes;
  return { first, second: both - first };
}

const mib = (bytes: number) =>
  bytes >= GiB ? `${(bytes / GiB).toFixed(2)} GiB` : `${(bytes / MiB).toFixed(1)} MiB`;

function report(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    `${row.image}, ${row.sliceBytes / KiB} KiB, level ${row.level}`,
    (row.dataBytes / row.storedBytes).toFixed(2),
    (row.storedBytes / row.resticBytes).toFixed(3),
    (row.scatteredBytes / row.storedBytes).toFixed(3),
    (row.scatteredBytes / row.resticScatteredBytes).toFixed(3),
    `${(row.dataBytes / MiB / row.compressSeconds).toFixed(0)} MiB/s`,
    `${(row.dataBytes / MiB / row.hashSeconds).toFixed(0)} MiB/s`,
  ]);
  const head = [
    'image, slice, zstd',
    ...['compressed', "of restic's", 'scattered 1 %', "of restic's", 'compress', 'sha256'],
  ];
  return table(head, cells);
}
