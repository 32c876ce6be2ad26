import { join } from 'node:path';
import { KiB, MiB } from '../src/base/units.ts';
import type { Disk, DiskFile } from '../src/contracts/disk.ts';
import { nodeDisk } from '../src/host/node-disk.ts';
import type { Options } from './options.ts';
import type { Scope } from './scope.ts';
import { median, rotated } from './statistics.ts';
import { table } from './table.ts';

const OBJECTS = 256;
const OBJECT_BYTES = 4 * MiB;
const BLOCK_BYTES = 4 * KiB;
/** How many objects are dirty, and how many blocks in each, when the guest flushes. */
const LOADS = [
  { objects: 1, blocks: 1 },
  { objects: 32, blocks: 1 },
  { objects: 256, blocks: 1 },
  { objects: 32, blocks: 8 },
  { objects: 4, blocks: 256 },
] as const;

interface Row {
  readonly objects: number;
  readonly blocks: number;
  readonly parallelMs: number;
  readonly syncAllMs: number;
  readonly journalMs: number;
}

/**
 * What a flush costs by each of three ways, the same blocks dirty in the same object files:
 * fdatasync of each file, four at once; syncfs; or an append of the blocks to one file that was
 * written full before, and one fdatasync of it (the files stay dirty, as they do in the store, and
 * are synced between the rounds, unmeasured).
 */
export async function flushWays(
  scope: Scope,
  { rounds }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  const disk = nodeDisk();
  await using files = new AsyncDisposableStack();
  const objects: DiskFile[] = [];
  for (let index = 0; index < OBJECTS; index += 1) {
    objects.push(files.use(await fullFile(disk, join(scope.directory, `${index}`), OBJECT_BYTES)));
  }
  const journal = files.use(await fullFile(disk, join(scope.directory, 'journal'), 64 * MiB));
  const rows: Row[] = [];
  for (const load of LOADS) {
    const ways = {
      parallelMs: (dirty: DiskFile[]) => inFours(dirty, (file) => file.sync()),
      syncAllMs: () => disk.syncAll(scope.directory),
      journalMs: (dirty: DiskFile[]) => append(journal, dirty.length * load.blocks),
    };
    const times: Record<keyof typeof ways, number[]> = {
      parallelMs: [],
      syncAllMs: [],
      journalMs: [],
    };
    for (let round = 0; round < Math.max(rounds, 5) * 4; round += 1) {
      for (const way of rotated(['parallelMs', 'syncAllMs', 'journalMs'] as const, round)) {
        const dirty = makeDirty(objects, load, round);
        const begun = performance.now();
        await ways[way](dirty);
        times[way].push(performance.now() - begun);
        await inFours(dirty, (file) => file.sync());
      }
    }
    const { parallelMs, syncAllMs, journalMs } = times;
    const medians = { parallelMs: median(parallelMs), syncAllMs: median(syncAllMs) };
    rows.push({ ...load, ...medians, journalMs: median(journalMs) });
    say(`${load.objects} objects, ${load.blocks} blocks each: done`);
  }
  const shown = rows.map((row) => [
    `${row.objects} x ${row.blocks}`,
    ...[row.parallelMs, row.syncAllMs, row.journalMs].map((ms) => `${ms.toFixed(2)} ms`),
  ]);
  const head = ['objects x blocks', 'fdatasync, 4 at once', 'syncfs', 'journal'];
  return { rows, text: table(head, shown) };
}

async function fullFile(disk: Disk, path: string, sizeBytes: number): Promise<DiskFile> {
  const file = await disk.open(path, { create: true });
  const piece = new Uint8Array(64 * KiB).fill(1);
  for (let at = 0; at < sizeBytes; at += piece.length) await file.write(at, piece);
  await file.sync();
  return file;
}

/** One block in `blocks` places of each of some files, other ones each round. */
function makeDirty(
  files: readonly DiskFile[],
  load: { readonly objects: number; readonly blocks: number },
  round: number,
): DiskFile[] {
  const block = new Uint8Array(BLOCK_BYTES).fill(round);
  const dirty = Array.from(
    { length: load.objects },
    (_, index) => files[(index + round * load.objects) % files.length] as DiskFile,
  );
  const places = OBJECT_BYTES / BLOCK_BYTES;
  for (const file of dirty) {
    for (let nth = 0; nth < load.blocks; nth += 1) {
      file.writeNow(((nth * 37 + round * 11) % places) * BLOCK_BYTES, block);
    }
  }
  return dirty;
}

let appendAt = 0;

async function append(journal: DiskFile, blocks: number): Promise<void> {
  const bytes = new Uint8Array((blocks + 1) * BLOCK_BYTES).fill(7);
  if (appendAt + bytes.length > 64 * MiB) appendAt = 0;
  journal.writeNow(appendAt, bytes);
  appendAt += bytes.length;
  await journal.sync();
}

async function inFours(
  files: readonly DiskFile[],
  work: (file: DiskFile) => Promise<void>,
): Promise<void> {
  const queue = files.values();
  const worker = async () => {
    for (const file of queue) await work(file);
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}
