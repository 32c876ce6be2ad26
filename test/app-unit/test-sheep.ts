import type { Host } from '../../src/app/host.ts';
import { type Sheep, startSheep } from '../../src/app/sheep.ts';
import type { Facts } from '../../src/base/errors.ts';
import { Histogram } from '../../src/base/histogram.ts';
import type { LogLevel } from '../../src/base/log.ts';
import { runCollie } from '../../src/cli/collie-main.ts';
import { fromFlags, loadConfig } from '../../src/config/load.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { nodeCpuPool } from '../../src/host/node-cpu-pool.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { listenHttp } from '../../src/host/node-http.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { watchProcess } from '../../src/host/node-process.ts';
import { nodeRandom } from '../../src/host/node-random.ts';
import { openServerTls } from '../../src/host/node-tls.ts';

export interface LogEvent {
  readonly level: LogLevel;
  readonly name: string;
  readonly facts: Facts;
}

/** The machine of these tests, with a log that can be read. */
async function testHost(events: LogEvent[] = []): Promise<Host> {
  const syncs = new Histogram();
  return {
    disk: nodeDisk((durationMs) => syncs.add(durationMs)),
    clock: nodeClock(),
    random: nodeRandom(),
    net: await openNodeNet(),
    log: { event: (level, name, facts = {}) => events.push({ level, name, facts }) },
    listenHttp,
    openTls: openServerTls,
    openPool: async () => nodeCpuPool(2),
    holder: { host: 'test', pid: process.pid },
    processStats: watchProcess(),
    diskSyncs: () => syncs.snapshot(),
    filesMax: 1024,
    memoryBytes: 2 ** 32,
    fatal: (error) => {
      throw error;
    },
    version: '1.2.3',
  };
}

export interface TestSheep extends Sheep {
  readonly events: LogEvent[];
  /** Where collie finds it. */
  readonly socket: string;
}

/** A sheep in this process, on sockets of its own. */
export async function startTestSheep(
  directory: string,
  settings: Readonly<Record<string, unknown>> = {},
  change: (host: Host) => Host = (host) => host,
): Promise<TestSheep> {
  const events: LogEvent[] = [];
  const socket = `unix:${directory}/admin.sock`;
  const given = { directory, nbd: ['127.0.0.1:0'], admin: [socket], ...settings };
  const host = change(await testHost(events));
  const sheep = await startSheep(host, loadConfig([fromFlags(given)]));
  return Object.assign(sheep, { events, socket });
}

export interface Said {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** `collie` in this process. `heard` is called with all of its output, each time there is more. */
export async function collie(
  args: readonly string[],
  environment: Record<string, string> = {},
  heard: (out: string) => void = () => undefined,
): Promise<Said> {
  let [out, err] = ['', ''];
  const status = await runCollie(args, {
    environment,
    watched: false,
    columns: () => 80,
    screen: () => undefined,
    sleep: async () => undefined,
    nowMs: () => 0, // so nothing takes long, on however slow a machine
    out: (text) => {
      out += text;
      heard(out);
    },
    err: (text) => {
      err += text;
    },
  });
  return { status, out, err };
}
