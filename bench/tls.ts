import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../src/base/units.ts';
import { Authority } from '../test/tls/authority.ts';
import type { Options } from './options.ts';
import type { Scope } from './scope.ts';
import { type Server, startQemuNbd, startSheep } from './servers.ts';
import { median, rotated } from './statistics.ts';
import { speedText, table } from './table.ts';

const DISK_BYTES = 512 * MiB;

interface Case {
  readonly name: string;
  readonly write: boolean;
  readonly blockBytes: number;
  readonly depth: number;
  /** Of sheep's speed, as a multiple of qemu-nbd's. */
  readonly goal?: number;
}

const CASES: readonly Case[] = [
  { name: 'write-1m-d8', write: true, blockBytes: MiB, depth: 8 },
  { name: 'read-1m-d8', write: false, blockBytes: MiB, depth: 8, goal: 0.5 },
  { name: 'write-4k-d32', write: true, blockBytes: 4 * KiB, depth: 32 },
  { name: 'read-4k-d32', write: false, blockBytes: 4 * KiB, depth: 32 },
];

interface Row {
  readonly name: string;
  readonly server: string;
  readonly tls: boolean;
  /** Bytes in a second, of each round and their median. */
  readonly rounds: readonly number[];
  readonly bytesPerSecond: number;
}

interface Contestant {
  readonly server: Server;
  readonly name: 'qemu-nbd' | 'sheep';
  readonly tls: boolean;
  readonly exportName: string;
}

/** The same requests inside TLS and outside, to sheep and to qemu-nbd with the same certificates. */
export async function tls(
  scope: Scope,
  { seconds, rounds }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  using authority = new Authority();
  const certs = authority.directory('bench');
  const credentials = ['--tls-certs', certs, '--tls-require'];
  const file = join(scope.directory, 'disk.raw');
  await mkdir(scope.directory, { recursive: true });
  await writeFile(file, '');
  await truncate(file, DISK_BYTES);
  await writeFile(imageOf(scope), Buffer.alloc(DISK_BYTES, 'sheep'));
  const vdis = [['bench', DISK_BYTES]] as const;
  const sheep = { name: 'sheep', exportName: 'bench' } as const;
  const qemu = { name: 'qemu-nbd', exportName: '' } as const;
  // Both of a kind serve the same bytes, in turns; sheep's have a store each.
  const contestants: readonly Contestant[] = [
    { ...qemu, tls: true, server: await startQemuNbd(scope, 'qemu-tls', file, certs) },
    { ...sheep, tls: true, server: await startSheep(scope, 'tls', vdis, credentials) },
    { ...qemu, tls: false, server: await startQemuNbd(scope, 'qemu-plain', file) },
    { ...sheep, tls: false, server: await startSheep(scope, 'plain', vdis) },
  ];
  const rows: Row[] = [];
  for (const one of CASES) {
    const speeds = new Map(contestants.map((contestant) => [contestant, [] as number[]]));
    for (let round = 0; round < rounds; round += 1) {
      for (const contestant of rotated(contestants, round)) {
        const speed = await measure(scope, contestant, one, certs, seconds);
        speeds.get(contestant)?.push(speed);
        const how = contestant.tls ? 'TLS' : 'plain';
        say(`${one.name} ${contestant.name} ${how}: ${text(one, speed)}`);
      }
    }
    for (const [{ name: server, tls }, found] of speeds) {
      const bytesPerSecond = median(found);
      rows.push({ name: one.name, server, tls, rounds: found, bytesPerSecond });
    }
  }
  for (const { server } of contestants) await scope.children.stop(server.child);
  return { rows, text: report(rows) };
}

/** nbdcopy moves the whole disk, again and again. @returns bytes in a second */
async function measure(
  scope: Scope,
  contestant: Contestant,
  { write, blockBytes, depth }: Case,
  certs: string,
  seconds: number,
): Promise<number> {
  const uri = uriOf(contestant, certs);
  const args = [
    ...[`--request-size=${blockBytes}`, `--requests=${depth}`, '--connections=1', '--no-extents'],
    ...(write ? ['--flush', imageOf(scope), uri] : [uri, 'null:']),
  ];
  const start = performance.now();
  let moved = 0;
  while (performance.now() - start < 1000 * seconds) {
    await scope.children.run('nbdcopy', args);
    moved += DISK_BYTES;
  }
  return (1000 * moved) / (performance.now() - start);
}

function uriOf({ server, tls, exportName }: Contestant, certs: string): string {
  if (!tls) return server.uri;
  const query = `socket=${server.socket}&tls-certificates=${certs}`;
  return `nbds+unix://localhost/${exportName}?${query}`;
}

/** What is written: bytes that are not zero, so that nobody leaves them out. */
const imageOf = ({ directory }: Scope) => join(directory, 'image.raw');

function text({ blockBytes }: Case, bytesPerSecond: number): string {
  return blockBytes < MiB
    ? speedText(bytesPerSecond / blockBytes, 'requests/s')
    : speedText(bytesPerSecond, 'bytes/s');
}

function report(rows: readonly Row[]): string {
  const lines = CASES.map((one) => {
    const speedOf = (server: string, tls: boolean) =>
      rows.find((row) => row.name === one.name && row.server === server && row.tls === tls)
        ?.bytesPerSecond ?? Number.NaN;
    const [qemu, sheep] = [speedOf('qemu-nbd', true), speedOf('sheep', true)];
    const goal =
      one.goal === undefined ? '' : ` ${sheep / qemu >= one.goal ? '≥' : '<'} ${one.goal}`;
    return [
      ...[one.name, text(one, qemu), text(one, sheep), `${(sheep / qemu).toFixed(2)}${goal}`],
      ...[text(one, speedOf('qemu-nbd', false)), text(one, speedOf('sheep', false))],
    ];
  });
  const head = ['inside TLS', 'qemu-nbd', 'sheep', 'sheep / qemu-nbd', 'plain: qemu-nbd', 'sheep'];
  return table(head, lines);
}
