import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect } from './children.ts';
import type { Scope } from './scope.ts';

const SHEEP = resolve(import.meta.dirname, '../bin/sheep');
const START_MS = 60_000;

export const SERVER_NAMES = ['nbdkit', 'qemu-nbd', 'sheep', 'sheep-nochecksums'] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

/** A running server with one disk behind a unix socket. */
export interface Server {
  readonly name: string;
  readonly child: ChildProcess;
  readonly pid: number;
  readonly socket: string;
  /** Of its first disk. */
  readonly uri: string;
  readonly uriOf: (exportName: string) => string;
  /** From its start until it accepted connections. */
  readonly startMs: number;
}

/** Waits until all of `paths` are there. @throws Error with what it said if the server ends first */
async function untilThere(child: ChildProcess, paths: readonly string[]): Promise<void> {
  const said = collect(child.stderr);
  child.stdout?.resume();
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  const start = performance.now();
  while (!paths.every((path) => existsSync(path))) {
    if (failure !== undefined) throw failure;
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`${child.spawnargs.join(' ')} ended: ${said()}`);
    }
    if (performance.now() - start > START_MS) {
      throw new Error(`${child.spawnargs.join(' ')}: not ready after ${START_MS} ms\n${said()}`);
    }
    await sleep(5);
  }
}

async function started(
  scope: Scope,
  name: string,
  command: readonly [string, ...string[]],
  socket: string,
  firstExport: string,
  readyFile = socket,
): Promise<Server> {
  const [program, ...args] = command;
  const startedMs = performance.now();
  const child = scope.children.start(program, args);
  await untilThere(child, [socket, readyFile]);
  const uriOf = (exportName: string) => `nbd+unix:///${exportName}?socket=${socket}`;
  return {
    name,
    child,
    pid: child.pid ?? 0,
    socket,
    uri: uriOf(firstExport),
    uriOf,
    startMs: performance.now() - startedMs,
  };
}

/** Where the sheep on the store of this name takes admin requests. */
export const adminSocket = ({ directory }: Scope, name: string) =>
  join(directory, name, 'admin.sock');

/** sheep on the store `directory`/`name`, with these VDIs, `NAME:SIZE` in bytes, the first one first. */
export async function startSheep(
  scope: Scope,
  name: string,
  vdis: readonly (readonly [vdi: string, sizeBytes: number])[],
  options: readonly string[] = [],
): Promise<Server> {
  const store = join(scope.directory, name);
  const socket = join(scope.directory, `${name}.sock`);
  const ready = join(store, 'sheep.json');
  await rm(ready, { force: true });
  const args = [store, '-n', `unix:${socket}`, '--admin', `unix:${adminSocket(scope, name)}`];
  for (const [vdi, sizeBytes] of vdis) args.push('--vdi', `${vdi}:${sizeBytes}`);
  const command = [SHEEP, ...args, ...options] as const;
  return started(scope, name, command, socket, vdis[0]?.[0] ?? '', ready);
}

/**
 * One of the servers that are compared. nbdkit and qemu-nbd serve the same file, so that the page
 * cache holds it once; they never run a case at the same time.
 */
export async function startServer(
  scope: Scope,
  name: ServerName,
  sizeBytes: number,
): Promise<Server> {
  const socket = join(scope.directory, `${name}.sock`);
  const file = join(scope.directory, 'disk.raw');
  if (name === 'sheep') return startSheep(scope, name, [['bench', sizeBytes]]);
  if (name === 'sheep-nochecksums') {
    return startSheep(scope, name, [['bench', sizeBytes]], ['--checksums=off']);
  }
  await mkdir(scope.directory, { recursive: true });
  await writeFile(file, '', { flag: 'a' });
  await truncate(file, sizeBytes);
  if (name === 'qemu-nbd') return startQemuNbd(scope, name, file);
  const command = ['nbdkit', '--foreground', '--unix', socket, 'file', file] as const;
  return started(scope, name, command, socket, '');
}

/** @param certs  a directory of certificates: it serves inside TLS only, to who has one as well */
export async function startQemuNbd(
  scope: Scope,
  name: string,
  file: string,
  certs?: string,
): Promise<Server> {
  const socket = join(scope.directory, `${name}.sock`);
  const secured = [
    ...['--object', `tls-creds-x509,id=t,dir=${certs},endpoint=server,verify-peer=on`],
    ...['--tls-creds', 't'],
  ];
  const args = [
    ...['--socket', socket, '--format=raw', '--persistent', '--shared=8'],
    ...(certs === undefined ? [] : secured),
  ];
  return started(scope, name, ['qemu-nbd', ...args, file], socket, '');
}
