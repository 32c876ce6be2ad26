import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAddress } from '../src/base/address.ts';
import { GiB, MiB } from '../src/base/units.ts';
import { CMD } from '../src/nbd/constants.ts';
import { Authority } from '../test/tls/authority.ts';
import { type FioJob, runFio } from './fio.ts';
import type { Options } from './options.ts';
import { memoryBytes, resetPeak } from './process-stats.ts';
import type { Scope } from './scope.ts';
import { type Server, startSheep } from './servers.ts';
import { median } from './statistics.ts';
import { type Place, requestHeader, Strangers } from './strangers.ts';
import { table } from './table.ts';

const DISK_BYTES = 1 * GiB;
const THOUSAND = 1000;
const REQUEST_BYTES = 64 * MiB;
/** Connections that were closed are released, and garbage is collected, within so long. */
const CALM_MS = 2_000;

interface Row {
  readonly what: string;
  /** Above what the server had before; at its highest. */
  readonly moreMiB: number;
  /** At most so much is promised. */
  readonly goalMiB: number;
  /** Of another client's throughput alone. */
  readonly kept?: number;
  /** What the strangers held or sent. */
  readonly did: string;
}

/** Who is at the door in one scene, and what they did. */
type Scene = (strangers: Strangers, place: Place) => Promise<() => string>;

/** Crowds that do nothing. */
const CROWDS: readonly (readonly [what: string, scene: Scene])[] = [
  [
    'a thousand half-open and a thousand idle connections',
    async (strangers, place) => {
      await strangers.idle(place, 'door', THOUSAND);
      await strangers.halfOpen(place, THOUSAND);
      return () => `${strangers.open} open`;
    },
  ],
  [
    'a thousand idle ones that wrote 1 MiB before',
    async (strangers, place) => {
      await strangers.idle(place, 'door', THOUSAND, MiB);
      return () => `${strangers.open} open`;
    },
  ],
  [
    'a thousand that ask for TLS and do not begin with it',
    async (strangers, place) => {
      await strangers.halfOpen(place, THOUSAND, 'TLS is to begin');
      return () => `${strangers.open} open`;
    },
  ],
  [
    'a thousand that begin with TLS and do not go on',
    async (strangers, place) => {
      await strangers.halfOpen(place, THOUSAND, 'TLS has begun');
      return () => `${strangers.open} open`;
    },
  ],
  [
    // Most find no memory and are closed at once.
    'a thousand that stopped in the middle of an option of 1 MiB',
    async (strangers, place) => {
      await strangers.halfOpen(place, THOUSAND, 'most of an option', 'once');
      return () => `${strangers.open} open`;
    },
  ],
  [
    // So this is a flood: a thousand new connections a second, each with all that the kernel takes.
    'the same, who come again each second',
    async (strangers, place) => {
      await strangers.halfOpen(place, THOUSAND, 'most of an option');
      return () => `${strangers.open} open`;
    },
  ],
];

const payload = Buffer.alloc(REQUEST_BYTES, 1);
/** What one client sends that reads no reply. */
const DEAF: readonly (readonly [what: string, next: () => Buffer])[] = [
  ['64 MiB writes', () => Buffer.concat([requestHeader(CMD.WRITE, 0, REQUEST_BYTES), payload])],
  ['64 MiB reads', () => requestHeader(CMD.READ, 0, REQUEST_BYTES)],
  ['4 KiB reads', () => requestHeader(CMD.READ, 0, 4096)],
];

/** What strangers and bad clients cost: memory, and the throughput of a client that means well. */
export async function door(
  scope: Scope,
  { seconds, rounds }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  const vdis = [
    ['good', DISK_BYTES],
    ['door', DISK_BYTES],
  ] as const;
  using authority = new Authority();
  const options = ['-n', '127.0.0.1:0', '--tls-certs', authority.directory('door')];
  const server = await startSheep(scope, 'door', vdis, options);
  const place = await tcpPlace(scope);
  const whole = { uri: server.uri, pattern: 'write', blockBytes: MiB, depth: 8 };
  await runFio(scope.children, whole);
  const reads: FioJob = {
    ...{ uri: server.uri, pattern: 'randread', blockBytes: 4096, depth: 32, seconds },
  };
  const readsPerSecond = async () => (await runFio(scope.children, reads)).requestsPerSecond;
  await readsPerSecond();

  const rows: Row[] = [];
  for (const [what, scene] of CROWDS) {
    const [kept, more, did] = [[] as number[], [] as number[], [] as string[]];
    for (let round = 0; round < rounds; round += 1) {
      // Before and after, because machines change their pace.
      const before = await readsPerSecond();
      const crowded = await beside(server, place, scene, readsPerSecond);
      const after = await readsPerSecond();
      more.push(crowded.moreMiB);
      did.push(crowded.did);
      kept.push((2 * crowded.readsPerSecond) / (before + after));
      say(`${what}: ${did.at(-1)}, ${more.at(-1)} MiB, ${kept.at(-1)?.toFixed(2)} kept`);
    }
    rows.push({
      what,
      ...{ moreMiB: median(more), goalMiB: 100, kept: median(kept), did: did.at(-1) ?? '' },
    });
  }
  for (const [what, next] of DEAF) {
    const more: number[] = [];
    let taken = 0;
    for (let round = 0; round < rounds; round += 1) {
      await sleep(CALM_MS);
      const before = beginPeak(server);
      await using strangers = new Strangers();
      taken = await strangers.deaf(place, 'door', 2 * seconds, next);
      more.push(peakAbove(server, before));
      say(`${what}, no reply read: ${Math.round(taken / MiB)} MiB sent, ${more.at(-1)} MiB more`);
    }
    const did = `${Math.round(taken / MiB)} MiB sent`;
    rows.push({ what: `${what}, no reply read`, moreMiB: median(more), goalMiB: 128, did });
  }
  await scope.children.stop(server.child);
  const head = ['at the door', 'did', 'more memory', 'promised', 'others keep'];
  const cells = rows.map(({ what, did, moreMiB, goalMiB, kept }) => [
    ...[what, did, `${moreMiB} MiB`, `${goalMiB} MiB`],
    kept === undefined ? '' : kept.toFixed(2),
  ]);
  return { rows, text: table(head, cells) };
}

/** A crowd at the door, and meanwhile a client that means well. */
async function beside(
  server: Server,
  place: Place,
  scene: Scene,
  measure: () => Promise<number>,
): Promise<{ readsPerSecond: number; moreMiB: number; did: string }> {
  const resident = beginPeak(server);
  const strangers = new Strangers();
  try {
    const tell = await scene(strangers, place);
    const readsPerSecond = await measure();
    return { readsPerSecond, moreMiB: peakAbove(server, resident), did: tell() };
  } finally {
    await strangers[Symbol.asyncDispose]();
    await sleep(CALM_MS);
  }
}

/** From here on `VmHWM` is the highest of what follows. */
function beginPeak({ pid }: Server): number {
  resetPeak(pid);
  return memoryBytes(pid, 'VmRSS');
}
function peakAbove({ pid }: Server, before: number): number {
  return Math.round((memoryBytes(pid, 'VmHWM') - before) / MiB);
}

/** The port that the server was given. */
async function tcpPlace(scope: Scope): Promise<Place> {
  const told = JSON.parse(await readFile(join(scope.directory, 'door', 'sheep.json'), 'utf8'));
  for (const address of told.nbd as string[]) {
    const where = parseAddress(address);
    if ('host' in where) return where;
  }
  throw new Error('NBD is served on no TCP port');
}
