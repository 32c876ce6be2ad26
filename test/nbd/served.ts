import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Facts } from '../../src/base/errors.ts';
import type { LogLevel } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Exports } from '../../src/contracts/exports.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import { type NbdServer, serveNbd } from '../../src/nbd/server.ts';
import { type GoOptions, TestClient } from './client.ts';
import { type DeviceCall, FileDevice, type FileDeviceOptions } from './file-device.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryNet } from './memory-net.ts';

export interface ServedOptions {
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
  readonly description?: string;
  readonly contexts?: FileDeviceOptions['contexts'];
  readonly chunkBytes?: number;
  readonly windowBytes?: number;
  readonly doneTurns?: number;
  readonly limits?: Partial<NbdLimits>;
  /** Decides what each call of the device waits for, or how it fails. */
  readonly before?: (call: DeviceCall) => void | Promise<void>;
  /** `share` gives a device as the usual `open` does. */
  readonly exports?: (device: FileDevice, share: () => BlockDevice) => Partial<Exports>;
}

/** A server over memory with one export `disk`, and everything a test wants to see of it. */
export class Served implements AsyncDisposable {
  readonly net: MemoryNet;
  readonly clock = new ManualClock();
  readonly device: FileDevice;
  /** Every call of the device, in order. */
  readonly calls: DeviceCall[] = [];
  readonly log: { level: LogLevel; name: string; facts: Facts }[] = [];
  readonly fatal: unknown[] = [];
  /** Devices given out and closed again. */
  opened = 0;
  closed = 0;
  readonly #folder = mkdtempSync(join(tmpdir(), 'sheepdog-nbd-'));
  readonly #options: ServedOptions;
  #server: NbdServer | undefined;

  private constructor(options: ServedOptions) {
    const { sizeBytes = 1 * MiB, readOnly = false, description = 'a disk', before } = options;
    const { contexts = {} } = options;
    this.#options = options;
    const { chunkBytes = 64 * 1024, windowBytes = 256 * 1024, doneTurns = 0 } = options;
    this.net = new MemoryNet({ chunkBytes, windowBytes, doneTurns });
    this.device = new FileDevice({
      path: join(this.#folder, 'disk'),
      sizeBytes,
      readOnly,
      description,
      contexts,
      before: (call) => {
        this.calls.push(call);
        return before?.(call);
      },
    });
  }

  static async start(options: ServedOptions = {}): Promise<Served> {
    const served = new Served(options);
    served.#server = await serveNbd({
      net: served.net,
      clock: served.clock,
      log: { event: (level, name, facts = {}) => void served.log.push({ level, name, facts }) },
      exports: served.#exports(),
      addresses: ['memory:0'],
      fatal: (error) => void served.fatal.push(error),
      limits: options.limits ?? {},
    });
    return served;
  }

  get server(): NbdServer {
    if (this.#server === undefined) throw new Error('not started');
    return this.#server;
  }

  connect(): Promise<TestClient> {
    return TestClient.connect(this.net, this.server.addresses[0] ?? '');
  }
  /** A client in transmission. */
  async client(options?: GoOptions): Promise<TestClient> {
    const client = await this.connect();
    await client.go('disk', options);
    return client;
  }
  /** Lets everything that can happen happen. */
  settle(): Promise<void> {
    return this.turns(20);
  }
  async turns(count: number): Promise<void> {
    for (let turn = 0; turn < count; turn += 1) await this.clock.yield();
  }
  /** For what real files do in their own time; the test's time limit is the limit. */
  async until(truth: () => boolean): Promise<void> {
    while (!truth()) await this.clock.yield();
  }
  named(name: string): readonly Facts[] {
    return this.log.filter((event) => event.name === name).map(({ facts }) => facts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const drained = this.server.drain(1_000);
    await this.settle();
    await this.clock.pass(1_000);
    await drained;
    await this.device[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true });
  }

  #exports(): Exports {
    const { device } = this;
    return {
      list: async () => [{ name: 'disk', description: device.info.description }],
      info: async (name) => (name === 'disk' ? device.info : undefined),
      open: async (name) => (name === 'disk' ? this.#share() : undefined),
      ...this.#options.exports?.(device, () => this.#share()),
    };
  }
  /** Each connection disposes its own; the file stays open for the others. */
  #share(): BlockDevice {
    this.opened += 1;
    const { device } = this;
    return {
      info: device.info,
      read: (at, into) => device.read(at, into),
      write: (at, from, call) => device.write(at, from, call),
      flush: (call) => device.flush(call),
      trim: (at, length, call) => device.trim(at, length, call),
      writeZeroes: (at, length, call) => device.writeZeroes(at, length, call),
      extents: (at, length, countMax) => device.extents(at, length, countMax),
      describe: (context, at, length, countMax) => device.describe(context, at, length, countMax),
      zeroNow: (at, length) => device.zeroNow(at, length),
      prefetch: (at, length) => device.prefetch(at, length),
      [Symbol.asyncDispose]: async () => {
        this.closed += 1;
      },
    };
  }
}

/** A gate for `before`: calls wait until it is opened. */
export class Gate {
  #open = Promise.withResolvers<void>();
  readonly wait = (): Promise<void> => this.#open.promise;
  open(): void {
    this.#open.resolve();
  }
  fail(error: unknown): void {
    this.#open.reject(error);
  }
}

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}
