import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { forEachAtMost } from '../src/base/parallel.ts';
import { KiB, MiB } from '../src/base/units.ts';
import { beginWriting } from '../src/farm/snapshots/writer.ts';
import { nodeDisk } from '../src/host/node-disk.ts';
import { nodeRandom } from '../src/host/node-random.ts';
import { type Asked, openBenchStore, STEPS, type Told } from './million.ts';
import { isAsked, type Options } from './options.ts';
import type { Scope } from './scope.ts';
import { median, rotated } from './statistics.ts';
import { table } from './table.ts';

/** What zstd leaves of a slice of 64 KiB of a root file system, about. */
const STORED_BYTES = 26 * KiB;
const OBJECTS = 20_000;
const AT_ONCE = 8;
const MILLION = 1_000_000;

const WAYS = ['a file each, synced', 'a file each, syncfs', 'packs'] as const;
type Way = (typeof WAYS)[number];

type Say = (line: string) => void;

interface Row {
  readonly what: string;
  readonly seconds: number;
  readonly files?: number;
  readonly residentMiB?: number;
}

/**
 * Why objects are kept in packs: the same objects stored as files and in packs, until all of it is
 * stable. And what a store of a million slices takes: time and memory of a process of its own that
 * opens it, plans a collection, checks all of it, and moves what stays of it.
 */
export async function packs(
  scope: Scope,
  options: Options,
  say: Say,
): Promise<{ rows: Row[]; text: string }> {
  const rows: Row[] = [];
  if (isAsked(options, 'ways')) rows.push(...(await ways(scope, options, say)));
  if (isAsked(options, 'million')) rows.push(...(await million(scope, say)));
  const shown = rows.map(({ what, seconds, files, residentMiB }) => [
    what,
    `${seconds.toFixed(1)} s`,
    files === undefined ? '' : `${files}`,
    residentMiB === undefined ? '' : `${residentMiB} MiB`,
  ]);
  return { rows, text: table(['what', 'time', 'files', 'memory at most'], shown) };
}

async function ways(scope: Scope, options: Options, say: Say): Promise<Row[]> {
  const times = new Map<Way, number[]>(WAYS.map((way) => [way, []]));
  const files = new Map<Way, number>();
  for (let round = 0; round < options.rounds; round += 1) {
    for (const way of rotated(WAYS, round)) {
      const directory = join(scope.directory, `${way.replaceAll(/\W+/g, '-')}-${round}`);
      const begun = performance.now();
      await store(way, directory);
      times.get(way)?.push((performance.now() - begun) / 1000);
      files.set(way, (await readdir(directory, { recursive: true })).length);
      say(`${way}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    }
  }
  return WAYS.map((way) => {
    const seconds = median(times.get(way) ?? []);
    return { what: `${OBJECTS} objects, ${way}`, seconds, files: files.get(way) ?? 0 };
  });
}

async function million(scope: Scope, say: Say): Promise<Row[]> {
  const rows: Row[] = [];
  const directory = join(scope.directory, 'million');
  for (const asked of STEPS) {
    const { seconds, residentBytes } = await ask(asked, directory);
    say(`${MILLION} slices, ${asked}: ${seconds.toFixed(1)} s`);
    const residentMiB = Math.round(residentBytes / MiB);
    rows.push({ what: `${MILLION} slices, ${asked}`, seconds, residentMiB });
  }
  return rows;
}

async function store(way: Way, directory: string): Promise<void> {
  if (way === 'packs') return storePacked(directory);
  const disk = nodeDisk();
  const random = nodeRandom();
  for (let low = 0; low < 256; low += 1) await disk.makeDirectory(join(directory, folder(low)));
  const numbers = Array.from({ length: OBJECTS }, (_, number) => number);
  await forEachAtMost(AT_ONCE, numbers, async (number) => {
    const path = join(directory, folder(number % 256), `${number}`);
    await using file = await disk.open(`${path}.draft`, { create: true });
    await file.write(0, random.bytes(STORED_BYTES));
    if (way === 'a file each, synced') await file.sync();
  });
  if (way === 'a file each, syncfs') await disk.syncAll(directory);
  await forEachAtMost(AT_ONCE, numbers, async (number) => {
    const path = join(directory, folder(number % 256), `${number}`);
    await disk.rename(`${path}.draft`, path);
  });
  const folders = Array.from({ length: 256 }, (_, low) => join(directory, folder(low)));
  await forEachAtMost(AT_ONCE, folders, (path) => disk.syncDirectory(path));
}

async function storePacked(directory: string): Promise<void> {
  await using opened = await openBenchStore(directory, 'none'); // what is stored is compressed already
  await using writer = await beginWriting(opened.store);
  const random = nodeRandom();
  for (let number = 0; number < OBJECTS; number += 1) {
    await writer.put('data', random.bytes(STORED_BYTES));
  }
  await writer.barrier();
}

function folder(low: number): string {
  return low.toString(16).padStart(2, '0');
}

/** In a process of its own, so that its memory is what this takes. */
async function ask(asked: Asked, directory: string): Promise<Told> {
  const path = join(import.meta.dirname, 'million.ts');
  // As bin/launch.sh starts a program.
  const env = { ...process.env, MALLOC_ARENA_MAX: '1' };
  const args = ['--max-semi-space-size=4', path, asked, directory];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  return JSON.parse(stdout) as Told;
}
