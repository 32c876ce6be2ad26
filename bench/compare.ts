import { join } from 'node:path';
import { MiB } from '../src/base/units.ts';
import { CASES, type Case } from './cases.ts';
import { type FioResult, runFio } from './fio.ts';
import { writeImage } from './image.ts';
import { isAsked, type Options } from './options.ts';
import { cpuSeconds, memoryBytes, resetPeak } from './process-stats.ts';
import type { Scope } from './scope.ts';
import { type Server, type ServerName, startServer } from './servers.ts';
import { median, rotated } from './statistics.ts';

/** One case on one server, once. */
interface Sample {
  /** Requests a second of small blocks, bytes a second of everything else. */
  readonly speed: number;
  /** The server's, for each request; of a conversion for each MiB of the image. */
  readonly cpuUs: number;
  readonly peakBytes: number;
  readonly latencyUs?: FioResult['latencyUs'];
}

/** One case on one server: every round, and the medians. */
export interface CaseResult {
  readonly name: string;
  readonly server: ServerName;
  readonly unit: Unit;
  readonly speed: number;
  readonly cpuUs: number;
  readonly peakBytes: number;
  readonly latencyUs?: FioResult['latencyUs'];
  readonly rounds: readonly Sample[];
}

export type Unit = 'requests/s' | 'bytes/s';

function unitOf(one: Case): Unit {
  return one.kind === 'fio' && one.blockBytes < MiB ? 'requests/s' : 'bytes/s';
}

const IMAGE_BYTES_MAX = 512 * MiB;

const imageBytes = ({ sizeBytes }: Options) => Math.min(IMAGE_BYTES_MAX, sizeBytes);

/** Every chosen case on every chosen server, alternating. */
export async function compare(
  scope: Scope,
  options: Options,
  say: (line: string) => void,
): Promise<CaseResult[]> {
  const cases = CASES.filter(({ name }) => isAsked(options, name));
  if (cases.length === 0) throw new Error(`no case is called ${options.only.join(' or ')}`);
  const image = join(scope.directory, 'image.raw');
  await writeImage(image, imageBytes(options));
  const servers = new Map<ServerName, Server>();
  for (const name of options.servers) {
    const server = await startServer(scope, name, options.sizeBytes);
    servers.set(name, server);
    // The file of nbdkit and qemu-nbd is one.
    if (name === 'qemu-nbd' && servers.has('nbdkit')) continue;
    say(`filling the disk of ${name}`);
    await fill(scope, server);
  }
  const results: CaseResult[] = [];
  for (const one of cases) {
    const samples = new Map<ServerName, Sample[]>(options.servers.map((name) => [name, []]));
    for (let round = 0; round < options.rounds; round += 1) {
      for (const [name, server] of rotated([...servers], round)) {
        const sample = await measure(scope, one, server, options, image);
        samples.get(name)?.push(sample);
        say(`${one.name}, round ${round + 1}, ${name}: ${Math.round(sample.speed)} ${unitOf(one)}`);
      }
    }
    for (const [server, rounds] of samples) results.push(summary(one, server, rounds));
  }
  for (const server of servers.values()) await scope.children.stop(server.child);
  return results;
}

/** Writes the whole disk and reads it once: allocated, on the medium, and in the page cache. */
async function fill(scope: Scope, { uri }: Server): Promise<void> {
  const whole = { uri, blockBytes: MiB, depth: 8 };
  await runFio(scope.children, { ...whole, pattern: 'write', extra: ['--end_fsync=1'] });
  await runFio(scope.children, { ...whole, pattern: 'read' });
}

async function measure(
  scope: Scope,
  one: Case,
  server: Server,
  options: Options,
  image: string,
): Promise<Sample> {
  // What the one before left dirty would be written back at this one's cost.
  await scope.children.run('sync', ['-f', scope.directory]);
  resetPeak(server.pid);
  const cpuBefore = cpuSeconds(server.pid);
  const done = (requests: number) => ({
    cpuUs: ((cpuSeconds(server.pid) - cpuBefore) * 1e6) / requests,
    peakBytes: memoryBytes(server.pid, 'VmHWM'),
  });
  if (one.kind === 'convert') {
    const start = performance.now();
    const args = ['convert', '-n', '-f', 'raw', '-O', 'raw', '-t', 'writethrough', image];
    await scope.children.run('qemu-img', [...args, server.uri]);
    const speed = imageBytes(options) / ((performance.now() - start) / 1000);
    return { speed, ...done(imageBytes(options) / MiB) };
  }
  const { seconds } = options;
  const result = await runFio(scope.children, { ...one, uri: server.uri, seconds });
  const speed = unitOf(one) === 'requests/s' ? result.requestsPerSecond : result.bytesPerSecond;
  return { speed, latencyUs: result.latencyUs, ...done(result.requests) };
}

function summary(one: Case, server: ServerName, rounds: readonly Sample[]): CaseResult {
  const of = (pick: (sample: Sample) => number) => median(rounds.map(pick));
  const latency = (pick: (latencyUs: FioResult['latencyUs']) => number) =>
    of(({ latencyUs }) => (latencyUs === undefined ? Number.NaN : pick(latencyUs)));
  return {
    name: one.name,
    server,
    unit: unitOf(one),
    speed: of(({ speed }) => speed),
    cpuUs: of(({ cpuUs }) => cpuUs),
    peakBytes: Math.max(...rounds.map(({ peakBytes }) => peakBytes)),
    ...(one.kind === 'convert'
      ? {}
      : {
          latencyUs: {
            mean: latency(({ mean }) => mean),
            p50: latency(({ p50 }) => p50),
            p99: latency(({ p99 }) => p99),
            p999: latency(({ p999 }) => p999),
            max: latency(({ max }) => max),
          },
        }),
    rounds,
  };
}
