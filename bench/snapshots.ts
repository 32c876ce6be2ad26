import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_BYTES, GiB, KiB, MiB, TiB } from '../src/base/units.ts';
import { askAdmin, listedObjects } from './admin.ts';
import { type FioJob, type FioResult, runFio } from './fio.ts';
import { isAsked, type Options } from './options.ts';
import { bytesWritten, memoryBytes } from './process-stats.ts';
import type { Scope } from './scope.ts';
import { adminSocket, type Server, startSheep } from './servers.ts';
import { median } from './statistics.ts';
import { table } from './table.ts';

const OBJECT_BYTES = 4 * MiB;
const CHAIN = 100;
/** Written between two snapshots of the chain: few objects in all, and more than are kept open. */
const CHAIN_WRITES = [4, 64];
const DELETED_OBJECTS = 100_000;

interface Row {
  readonly what: string;
  readonly measured: string;
  readonly goal: string;
}
type Say = (line: string) => void;

const PARTS = {
  making,
  'beside-a-writer': besideAWriter,
  'through-a-chain': throughAChain,
  'first-writes': firstWrites,
  deleting,
};

/** What snapshots and clones cost: to make, to read through, to write over, to delete. */
export async function snapshots(
  scope: Scope,
  options: Options,
  say: Say,
): Promise<{ rows: Row[]; text: string }> {
  const rows: Row[] = [];
  for (const [name, part] of Object.entries(PARTS)) {
    if (isAsked(options, name)) {
      rows.push(...(await part(scope, options, say)));
    }
  }
  const cells = rows.map(({ what, measured, goal }) => [what, measured, goal]);
  return { rows, text: table(['snapshots and clones', 'measured', 'goal'], cells) };
}

class Bench {
  readonly #scope: Scope;
  readonly server: Server;
  readonly #socket: string;

  constructor(scope: Scope, server: Server, name: string) {
    this.#scope = scope;
    this.server = server;
    this.#socket = adminSocket(scope, name);
  }

  static async start(
    scope: Scope,
    name: string,
    vdis: Parameters<typeof startSheep>[2],
  ): Promise<Bench> {
    return new Bench(scope, await startSheep(scope, name, vdis), name);
  }

  ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) {
    return askAdmin(this.#socket, method, `/v1/vdis/${path}`, body);
  }
  snapshot(name: string, tag: string) {
    return this.ask('POST', `${name}/snapshots`, { tag });
  }
  clone(name: string, tag: string, target: string) {
    return this.ask('POST', `${name}/snapshots/${tag}/clones`, { name: target });
  }
  fio(vdi: string, job: Omit<FioJob, 'uri'>): Promise<FioResult> {
    return runFio(this.#scope.children, { uri: this.server.uriOf(vdi), ...job });
  }
  fill(vdi: string): Promise<FioResult> {
    const extra = ['--end_fsync=1'];
    return this.fio(vdi, { pattern: 'write', blockBytes: MiB, depth: 8, extra });
  }
  /** One block into each of the first so many objects. */
  touch(vdi: string, objects: number): Promise<FioResult> {
    return this.fio(vdi, {
      pattern: `write:${OBJECT_BYTES - BLOCK_BYTES}`,
      blockBytes: BLOCK_BYTES,
      depth: 16,
      sizeBytes: objects * OBJECT_BYTES,
      extra: [`--io_size=${objects * BLOCK_BYTES}`, '--end_fsync=1'],
    });
  }
  /** Nobody has changed anything for a while. */
  async rested(): Promise<void> {
    while ((await listedObjects(this.#socket)) > 64) await sleep(1000);
  }
  stop(): Promise<void> {
    return this.#scope.children.stop(this.server.child);
  }
}

async function making(scope: Scope, { objects, rounds }: Options, say: Say): Promise<Row[]> {
  const bench = await Bench.start(scope, 'large', [['large', 4 * TiB]]);
  say(`writing one block into each of ${objects} objects`);
  await bench.touch('large', objects);
  const rows: Row[] = [];
  const measure = async (what: string, make: (round: number) => Promise<{ ms: number }>) => {
    const taken: { ms: number; bytes: number }[] = [];
    for (let round = 0; round < Math.max(rounds, 5); round += 1) {
      await sleep(500);
      const before = bytesWritten(bench.server.pid);
      const { ms } = await make(round);
      taken.push({ ms, bytes: bytesWritten(bench.server.pid) - before });
    }
    const ms = median(taken.map((one) => one.ms));
    const kib = Math.max(...taken.map((one) => one.bytes)) / KiB;
    rows.push({
      what: `${what} of 4 TiB, ${objects.toLocaleString('en')} objects`,
      measured: `${ms.toFixed(1)} ms, at most ${kib.toFixed(0)} KiB written`,
      goal: '50 ms, 64 KiB',
    });
    say(`${what}: ${taken.map((one) => one.ms.toFixed(1)).join(' ')} ms`);
  };
  await measure('snapshot', (round) => bench.snapshot('large', `s${round}`));
  await measure('clone', (round) => bench.clone('large', 's0', `clone${round}`));
  await bench.stop();
  return rows;
}

async function besideAWriter(scope: Scope, { seconds }: Options, say: Say): Promise<Row[]> {
  const bench = await Bench.start(scope, 'writer', [['disk', 2 * GiB]]);
  await bench.fill('disk');
  say('a writer of 4 KiB at depth 32, and ten snapshots');
  const load = { pattern: 'randwrite', blockBytes: BLOCK_BYTES, depth: 32 };
  const alone = await bench.fio('disk', { ...load, seconds });
  const running = bench.fio('disk', { ...load, seconds: 12 });
  await sleep(1000);
  const taken: number[] = [];
  for (let tag = 0; tag < 10; tag += 1) {
    taken.push((await bench.snapshot('disk', `s${tag}`)).ms);
    await sleep(500);
  }
  const beside = await running;
  await bench.stop();
  say(`snapshots: ${taken.map((ms) => ms.toFixed(0)).join(' ')} ms`);
  const rate = (result: FioResult) => `${(result.requestsPerSecond / 1000).toFixed(1)}k/s`;
  return [
    {
      what: 'ten snapshots in 6 s beside 4 KiB random writes at depth 32',
      measured: `longest write ${(beside.latencyUs.max / 1000).toFixed(0)} ms (alone ${(
        alone.latencyUs.max / 1000
      ).toFixed(0)}), ${rate(beside)} (alone ${rate(alone)})`,
      goal: '100 ms',
    },
  ];
}

async function throughAChain(scope: Scope, options: Options, say: Say): Promise<Row[]> {
  const rows: Row[] = [];
  for (const writes of CHAIN_WRITES) rows.push(await throughOneChain(scope, options, writes, say));
  return rows;
}

async function throughOneChain(
  scope: Scope,
  { rounds, seconds }: Options,
  writes: number,
  say: Say,
): Promise<Row> {
  const bench = await Bench.start(scope, `chain${writes}`, [
    ['plain', GiB],
    ['chain', GiB],
  ]);
  await bench.fill('plain');
  await bench.fill('chain');
  say(`${CHAIN} snapshots, ${writes} random writes before each`);
  for (let link = 0; link < CHAIN; link += 1) {
    await bench.fio('chain', {
      pattern: 'randwrite',
      blockBytes: BLOCK_BYTES,
      depth: 8,
      extra: [`--io_size=${writes * BLOCK_BYTES}`],
    });
    await bench.snapshot('chain', `s${link}`);
  }
  await bench.rested();
  const speeds = { plain: [] as number[], chain: [] as number[] };
  const job = { pattern: 'randread', blockBytes: BLOCK_BYTES, depth: 32, seconds };
  for (const vdi of ['plain', 'chain'] as const) await bench.fio(vdi, job);
  for (let round = 0; round < Math.max(rounds, 5); round += 1) {
    for (const vdi of round % 2 === 0
      ? (['plain', 'chain'] as const)
      : (['chain', 'plain'] as const)) {
      speeds[vdi].push((await bench.fio(vdi, job)).requestsPerSecond);
    }
  }
  await bench.stop();
  say(JSON.stringify(speeds));
  const ratio = median(speeds.chain) / median(speeds.plain);
  return {
    what: `4 KiB random reads, depth 32, through ${CHAIN} snapshots of ${writes} random writes each`,
    measured: `${ratio.toFixed(2)} of a disk without`,
    goal: '0.95',
  };
}

async function firstWrites(scope: Scope, { rounds }: Options, say: Say): Promise<Row[]> {
  const bench = await Bench.start(scope, 'first', [['base', GiB]]);
  await bench.fill('base');
  await bench.snapshot('base', 'golden');
  // So that what is measured in place belongs to the disk itself.
  await bench.fill('base');
  say('first writes to blocks of clones, beside writes in place');
  const rows: Row[] = [];
  for (const fsync of [undefined, 1]) {
    const mean = { place: [] as number[], clone: [] as number[] };
    const write = (vdi: string) =>
      bench.fio(vdi, {
        pattern: 'randwrite',
        blockBytes: BLOCK_BYTES,
        depth: 1,
        ...(fsync !== undefined && { fsync }),
        extra: [`--io_size=${fsync === undefined ? 64 * MiB : 8 * MiB}`, '--norandommap=0'],
      });
    for (let round = 0; round < Math.max(rounds, 5); round += 1) {
      const clone = `clone${fsync ?? 0}-${round}`;
      await bench.clone('base', 'golden', clone);
      mean.place.push(secondsOfRequest(await write('base')));
      mean.clone.push(secondsOfRequest(await write(clone)));
    }
    const ratio = median(mean.clone) / median(mean.place);
    rows.push({
      what: `first writes to random blocks of a clone, depth 1${fsync ? ', flushed each' : ''}`,
      measured: `${ratio.toFixed(2)} times the time of writes in place`,
      goal: '2',
    });
    say(`in place ${mean.place.join(' ')}, clone ${mean.clone.join(' ')}`);
  }
  await bench.stop();
  return rows;
}

const secondsOfRequest = ({ requestsPerSecond }: FioResult): number => 1 / requestsPerSecond;

async function deleting(scope: Scope, { seconds }: Options, say: Say): Promise<Row[]> {
  const bench = await Bench.start(scope, 'deleting', [
    ['hot', GiB],
    ['big', DELETED_OBJECTS * OBJECT_BYTES],
  ]);
  await bench.fill('hot');
  say(`a snapshot of ${DELETED_OBJECTS} objects that nobody else needs`);
  await bench.touch('big', DELETED_OBJECTS);
  await bench.snapshot('big', 's');
  await bench.ask('DELETE', 'big');
  const load = { pattern: 'randwrite', blockBytes: BLOCK_BYTES, depth: 32 };
  const before = await bench.fio('hot', { ...load, seconds: Math.max(seconds, 5) });
  const residentBefore = memoryBytes(bench.server.pid, 'VmRSS');
  let highest = residentBefore;
  let over = false;
  const removal = bench.ask('DELETE', 'big/snapshots/s').finally(() => {
    over = true;
  });
  // fio runs in turns as long as the removal takes.
  const beside: number[] = [];
  while (!over) {
    beside.push((await bench.fio('hot', { ...load, seconds: 2 })).requestsPerSecond);
    highest = Math.max(highest, memoryBytes(bench.server.pid, 'VmRSS'));
  }
  const { ms } = await removal;
  const after = await bench.fio('hot', { ...load, seconds: Math.max(seconds, 5) });
  await bench.stop();
  // The last turn lasted longer than the removal.
  const turns = beside.length > 1 ? beside.slice(0, -1) : beside;
  const alone = (before.requestsPerSecond + after.requestsPerSecond) / 2;
  say(`beside ${turns.map(Math.round).join(' ')}, alone ${Math.round(alone)}, ${ms.toFixed(0)} ms`);
  return [
    {
      what: `deleting a snapshot of ${DELETED_OBJECTS.toLocaleString('en')} objects beside 4 KiB random writes`,
      measured: `${(ms / 1000).toFixed(0)} s, ${Math.round(
        (highest - residentBefore) / MiB,
      )} MiB more, writers keep ${(median(turns) / alone).toFixed(2)}`,
      goal: '100 MB, 0.80',
    },
  ];
}
