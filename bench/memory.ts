import { join } from 'node:path';
import { MiB, TiB } from '../src/base/units.ts';
import { runFio } from './fio.ts';
import { makeObjectsFull } from './full-objects.ts';
import type { Options } from './options.ts';
import { forgetPages } from './page-cache.ts';
import { memoryBytes } from './process-stats.ts';
import type { Scope } from './scope.ts';
import { type Server, startSheep } from './servers.ts';
import { table } from './table.ts';

const DISK_BYTES = 4 * TiB;
const OBJECT_BYTES = 4 * MiB;
const OBJECTS = 100_000;
/** Every tenth object of the disk, so that the whole inode is in use. */
const STRIDE_BYTES = 10 * OBJECT_BYTES;
const BLOCK_BYTES = 4096;
/** Reads go to so many places in each object. */
const PLACES = 8;

interface Row {
  readonly when: string;
  readonly startMs: number;
  readonly residentMiB: number;
  readonly peakMiB: number;
  readonly readsPerSecond?: number;
}

/**
 * Resident memory and time to start with a 4 TiB VDI of 100,000 objects, of 400 GB in all. Their
 * tables are full, their data is sparse (full-objects.ts): content does not matter here.
 */
export async function memory(
  scope: Scope,
  { seconds }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  const start = () => startSheep(scope, 'memory', [['large', DISK_BYTES]]);
  const rows: Row[] = [];
  const look = (when: string, server: Server, readsPerSecond?: number): void => {
    const [residentMiB, peakMiB] = (['VmRSS', 'VmHWM'] as const).map((field) =>
      Math.round(memoryBytes(server.pid, field) / MiB),
    ) as [number, number];
    const startMs = Math.round(server.startMs);
    rows.push({ when, startMs, residentMiB, peakMiB, ...(readsPerSecond && { readsPerSecond }) });
    say(`${when}: ${residentMiB} MiB resident`);
  };

  say(`writing one block into each of ${OBJECTS} objects`);
  const first = await start();
  await runFio(scope.children, {
    uri: first.uri,
    pattern: `write:${STRIDE_BYTES - BLOCK_BYTES}`,
    blockBytes: BLOCK_BYTES,
    depth: 16,
    sizeBytes: OBJECTS * STRIDE_BYTES,
    extra: [`--io_size=${OBJECTS * BLOCK_BYTES}`, '--end_fsync=1'],
  });
  look('after writing', first);
  await scope.children.stop(first.child);
  say('making the objects full');
  const objects = await makeObjectsFull(
    join(scope.directory, 'memory'),
    OBJECT_BYTES / PLACES / BLOCK_BYTES,
  );
  if (objects < OBJECTS) throw new Error(`the store has ${objects} objects, not ${OBJECTS}`);

  const cold = await forgetPages();
  const second = await start();
  look(`started after a clean stop, page cache ${cold ? 'empty' : 'as it was'}`, second);
  const readsPerSecond = await readAll(scope, second, seconds);
  look('after random reads over all', second, readsPerSecond);
  second.child.kill('SIGKILL');
  await scope.children.stop(second.child);

  const third = await start();
  look('started after kill -9', third);
  await scope.children.stop(third.child);
  const cells = rows.map((row) => [
    row.when,
    `${row.startMs} ms`,
    `${row.residentMiB} MiB`,
    `${row.peakMiB} MiB`,
    row.readsPerSecond === undefined ? '' : `${Math.round(row.readsPerSecond)}`,
  ]);
  const head = [
    '4 TiB, 100,000 full tables over sparse data',
    'start',
    'resident',
    'peak',
    'reads/s',
  ];
  return { rows, text: table(head, cells) };
}

/** Random reads, one place in the objects after the other. @returns reads a second over all */
async function readAll(scope: Scope, { uri }: Server, seconds: number): Promise<number> {
  let sum = 0;
  for (let place = 0; place < PLACES; place += 1) {
    const { requestsPerSecond } = await runFio(scope.children, {
      uri,
      pattern: 'randread',
      blockBytes: BLOCK_BYTES,
      depth: 32,
      seconds,
      sizeBytes: OBJECTS * STRIDE_BYTES - STRIDE_BYTES,
      extra: [`--blockalign=${STRIDE_BYTES}`, `--offset=${(place * OBJECT_BYTES) / PLACES}`],
    });
    sum += requestsPerSecond;
  }
  return sum / PLACES;
}
