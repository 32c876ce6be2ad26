import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperationLine } from '../src/app/admin-cluster-views.ts';
import { GiB, MiB } from '../src/base/units.ts';
import { type FioResult, runFio } from './fio.ts';
import type { Scope } from './scope.ts';
import { adminSocket, startSheep } from './servers.ts';
import { median } from './statistics.ts';

const WRITTEN = 'written';
const WRITTEN_BYTES = GiB;
/** The writer begins before the snapshot, so that the instant of it is among what it feels. */
const LEAD_MS = 500;
const WRITER_SECONDS = 3;

interface Round {
  readonly idleMs: number;
  readonly besideMs: number;
  readonly alone: readonly FioResult[];
  readonly beside: readonly FioResult[];
}

export interface Beside {
  readonly depth: number;
  /** Of the writer's throughput, and of the snapshot's speed without it. */
  readonly writerKeeps: number;
  readonly snapshotKeeps: number;
  readonly longestMs: number;
  readonly longestAloneMs: number;
  readonly snapshotSeconds: number;
}

/**
 * A snapshot of the cluster, with a VDI of real files in it, while fio writes 4 KiB blocks at random to
 * another; each of the two alone in the same round.
 */
export async function farmBeside(
  scope: Scope,
  image: string,
  rounds: number,
  say: (line: string) => void,
): Promise<Beside[]> {
  const server = await startSheep(scope, 'beside', [[WRITTEN, WRITTEN_BYTES]]);
  const socket = adminSocket(scope, 'beside');
  const { children } = scope;
  await children.run(new URL('../bin/collie', import.meta.url).pathname, [
    ...['-a', `unix:${socket}`, 'vdi', 'import', image, 'root'],
  ]);
  const fill = { pattern: 'write', blockBytes: MiB, depth: 8, extra: ['--end_fsync=1'] };
  await runFio(children, { uri: server.uriOf(WRITTEN), ...fill });
  const writer = (depth: number) =>
    runFio(children, {
      ...{ uri: server.uriOf(WRITTEN), pattern: 'randwrite', blockBytes: 4096, depth },
      seconds: WRITER_SECONDS,
    });
  const results: Beside[] = [];
  for (const depth of [1, 32]) {
    const measured: Round[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const idleMs = await save(socket);
      await forget(socket);
      const alone: FioResult[] = [];
      // As long as a snapshot: what comes now and then, such as writeback, is in both.
      const until = performance.now() + idleMs;
      while (performance.now() < until) alone.push(await writer(depth));
      const first = writer(depth);
      await sleep(LEAD_MS);
      let over = false;
      const saving = save(socket).finally(() => {
        over = true;
      });
      // What ends with the snapshot, or after it, is not counted; the first one felt its instant.
      const beside = [await first];
      while (!over) {
        const next = await writer(depth);
        if (!over) beside.push(next);
      }
      const besideMs = await saving;
      await forget(socket);
      measured.push({ idleMs, besideMs, alone, beside });
      say(
        `depth ${depth}: snapshot ${seconds(idleMs)} alone, ${seconds(besideMs)} beside; writer ` +
          `${perSecond(alone).toFixed(0)}/s alone, ${perSecond(beside).toFixed(0)}/s beside, ` +
          `longest ${longestMs(beside).toFixed(0)} ms (${longestMs(alone).toFixed(0)})`,
      );
    }
    results.push(summed(depth, measured));
  }
  await children.stop(server.child);
  return results;
}

function summed(depth: number, rounds: readonly Round[]): Beside {
  const of = (value: (round: Round) => number) => median(rounds.map(value));
  return {
    depth,
    writerKeeps: of(({ alone, beside }) => perSecond(beside) / perSecond(alone)),
    snapshotKeeps: of(({ idleMs, besideMs }) => idleMs / besideMs),
    longestMs: of(({ beside }) => longestMs(beside)),
    longestAloneMs: of(({ alone }) => longestMs(alone)),
    snapshotSeconds: of(({ idleMs }) => idleMs) / 1000,
  };
}

/** @returns how long it took */
async function save(socket: string): Promise<number> {
  const began = performance.now();
  for await (const line of operation(socket, 'POST', '', { tag: 'bench' })) void line;
  return performance.now() - began;
}

/** So that the next save reads everything again. */
async function forget(socket: string): Promise<void> {
  for await (const line of operation(socket, 'DELETE', '/bench')) void line;
}

async function* operation(socketPath: string, method: string, path: string, body?: object) {
  const headers = { 'content-type': 'application/json' };
  const where = { socketPath, method, path: `/v1/cluster/snapshots${path}` };
  const asked = request({ ...where, ...(body && { headers }) });
  asked.end(body && JSON.stringify(body));
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  for await (const text of createInterface({ input: answer })) {
    const line = JSON.parse(text) as OperationLine<unknown>;
    if (line.is !== 'progress' && line.is !== 'end') throw new Error(`${method} ${path}: ${text}`);
    yield line;
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const perSecond = (results: readonly FioResult[]) =>
  results.reduce((sum, one) => sum + one.requestsPerSecond, 0) / results.length;
const longestMs = (results: readonly FioResult[]) =>
  Math.max(...results.map(({ latencyUs }) => latencyUs.max)) / 1000;
