import { closeSync, fstatSync, readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { CommanderError } from 'commander';
import type { Host } from '../app/host.ts';
import { checkVdis, type Sheep, startSheep } from '../app/sheep.ts';
import { describeError, isFault, SheepError } from '../base/errors.ts';
import { Histogram } from '../base/histogram.ts';
import { fromFile, fromFlags, loadConfig, problemsOf, type SheepConfig } from '../config/load.ts';
import { configJsonSchema } from '../config/schema.ts';
import { nodeClock } from '../host/node-clock.ts';
import { nodeDisk } from '../host/node-disk.ts';
import { listenHttp } from '../host/node-http.ts';
import { type NodeLog, openNodeLog } from '../host/node-log.ts';
import { openNodeNet } from '../host/node-net.ts';
import { collectOften, memoryBytes, openFilesMax, watchProcess } from '../host/node-process.ts';
import { nodeRandom } from '../host/node-random.ts';
import { openServerTls } from '../host/node-tls.ts';
import { passedAddresses, ServiceManager } from './below-systemd.ts';
import { completionFor } from './completion/shells.ts';
import { hintLines } from './hints.ts';
import {
  type Output,
  parseSheepArguments,
  type SheepArguments,
  sheepCommand,
} from './sheep-options.ts';
import { stopSignal } from './stop-signals.ts';
import { programVersion } from './version.ts';

const STDERR = 2;

/** The daemon from its arguments to its exit status: 0 stopped as asked, 1 failed, 2 wrong usage. */
export async function main(args: readonly string[]): Promise<void> {
  try {
    const output: Output = {
      out: (text) => process.stdout.write(text),
      err: (text) => process.stderr.write(text),
    };
    const given = parseSheepArguments(args, programVersion(), output);
    if (given.instead === undefined) await run(given, configOf(given));
    else output.out(await insteadOf(given.instead, given, output));
    process.exit(0);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode;
      return;
    }
    process.stderr.write(`sheep: ${describeError(error)}\n`);
    process.exit(isFault(error, 'ERR_BAD_INPUT') ? 2 : 1);
  }
}

/** What is printed instead of serving. @throws SheepError `ERR_BAD_INPUT` */
async function insteadOf(
  asked: NonNullable<SheepArguments['instead']>,
  given: SheepArguments,
  output: Output,
): Promise<string> {
  if (asked === 'config-schema') return `${JSON.stringify(configJsonSchema(), null, 2)}\n`;
  if (asked === 'check-config') return checkOnly(given, output);
  return completionFor(asked, sheepCommand(programVersion(), output));
}

/** Finds all that can be wrong before the store is opened. @throws SheepError `ERR_BAD_INPUT` */
async function checkOnly(
  { settings, configPath = '' }: SheepArguments,
  output: Output,
): Promise<string> {
  const sources = [fromFlags(settings), fromFile(configPath, readConfig(configPath))];
  const problems = sources.flatMap(problemsOf);
  for (const problem of problems.slice(0, -1)) output.err(`sheep: ${problem}\n`);
  const last = problems.at(-1);
  if (last !== undefined) throw new SheepError('ERR_BAD_INPUT', last);
  const config = loadConfig(sources, passedAddresses());
  checkVdis(config);
  if (config.tls !== undefined) await openServerTls(config.tls);
  return `${configPath} can be used\n`;
}

/** @throws SheepError `ERR_BAD_INPUT` */
function configOf({ settings, configPath, readyFd }: SheepArguments): SheepConfig {
  if (readyFd !== undefined) checkOpen(readyFd);
  const sources = [fromFlags(settings)];
  if (configPath !== undefined) sources.push(fromFile(configPath, readConfig(configPath)));
  return loadConfig(sources, passedAddresses());
}

async function run(given: SheepArguments, config: SheepConfig): Promise<void> {
  const log = openNodeLog(STDERR, config.logLevel, process.stderr.isTTY === true);
  try {
    const host = await realHost(log);
    let reload = () => {}; // until it runs there is nothing to read again
    const stopping = stopSignal(log, host.clock.monotonicMs, {
      stopNow: () => endNow(log, 1),
      reload: () => reload(),
    });
    const manager = new ServiceManager(log);
    const sheep = await startSheep(host, config);
    reload = () => void sheep.reload().catch(() => undefined); // the log tells
    announce(sheep, given, config, manager);
    await Promise.race([stopping, sheep.stopRequested]);
    manager.tell('STOPPING=1');
    await sheep[Symbol.asyncDispose]();
    log.event('info', 'sheep.stopped');
  } finally {
    await log.close();
  }
}

async function realHost(log: NodeLog): Promise<Host> {
  collectOften();
  const fatal = (error: unknown) => {
    const stack = error instanceof Error ? error.stack : undefined;
    log.event('error', 'sheep.fatal', { cause: describeError(error), stack });
    endNow(log, 1);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  const syncs = new Histogram();
  return {
    disk: nodeDisk((durationMs) => syncs.add(durationMs)),
    clock: nodeClock(),
    random: nodeRandom(),
    net: await openNodeNet(),
    log,
    listenHttp,
    openTls: openServerTls,
    openPool: async () => {
      const { processCpuPool } = await import('../host/process-cpu-pool.ts');
      return processCpuPool();
    },
    holder: { host: hostname(), pid: process.pid },
    processStats: watchProcess(),
    diskSyncs: () => syncs.snapshot(),
    filesMax: openFilesMax(),
    memoryBytes: memoryBytes(),
    fatal,
    version: programVersion(),
  };
}

/** Tells everybody who waits for it that requests are served from now on. */
function announce(
  sheep: Sheep,
  given: SheepArguments,
  config: SheepConfig,
  manager: ServiceManager,
): void {
  const nbd = sheep.nbd.join(' ');
  const line = `sheep: ready, nbd ${nbd}, admin ${sheep.admin.join(' ')}, store ${config.directory}`;
  // Whoever reads it may be gone already; that is no reason to stop serving.
  process.stdout.on('error', () => undefined);
  process.stdout.write(`${line}\n`);
  if (given.readyFd !== undefined) {
    writeSync(given.readyFd, `${line}\n`);
    closeSync(given.readyFd);
  }
  manager.tell(`READY=1\nSTATUS=serving NBD on ${nbd}`);
  if (!(given.hints ?? process.stdout.isTTY === true)) return;
  const [address] = sheep.nbd;
  const vdi = config.vdis[0]?.replace(/:[^:]*$/, '') ?? 'NAME';
  if (address === undefined) return;
  process.stdout.write(`${hintLines(address, sheep.admin, vdi, config.tlsRequire).join('\n')}\n`);
}

function endNow(log: NodeLog, status: number): never {
  log.flushNow();
  process.exit(status);
}

function readConfig(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SheepError('ERR_BAD_INPUT', `cannot read the file of --config ${path}`, {}, cause);
  }
}

function checkOpen(fd: number): void {
  try {
    fstatSync(fd);
  } catch (cause) {
    const message = `--ready-fd: ${fd} is not an open file descriptor`;
    throw new SheepError('ERR_BAD_INPUT', message, { fd }, cause);
  }
}
