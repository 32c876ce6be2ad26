import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Facts } from '../../src/base/errors.ts';
import type { Proof } from '../../src/contracts/exports.ts';
import type { Net } from '../../src/contracts/net.ts';
import type { ServerTls, TlsFiles } from '../../src/contracts/tls.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openServerTls } from '../../src/host/node-tls.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import { type NbdServer, serveNbd } from '../../src/nbd/server.ts';
import { TestClient } from '../nbd/client.ts';
import { FileDevice } from '../nbd/file-device.ts';

export interface ServedTlsOptions {
  readonly files: TlsFiles;
  readonly required?: boolean;
  readonly sizeBytes?: number;
  readonly limits?: Partial<NbdLimits>;
}

/** A server with one export `disk` on real sockets, with TLS, at a port and at a unix socket. */
export class ServedTls implements AsyncDisposable {
  readonly server: NbdServer;
  readonly tls: ServerTls;
  readonly net: Net;
  readonly socket: string;
  /** What came to open the export, in order. */
  readonly opened: (Proof | undefined)[];
  readonly log: readonly { readonly name: string; readonly facts: Facts }[];
  readonly #end: () => Promise<void>;

  private constructor(
    parts: Pick<ServedTls, 'server' | 'tls' | 'net' | 'socket' | 'opened' | 'log'>,
    end: () => Promise<void>,
  ) {
    this.server = parts.server;
    this.tls = parts.tls;
    this.net = parts.net;
    this.socket = parts.socket;
    this.opened = parts.opened;
    this.log = parts.log;
    this.#end = end;
  }

  static async start({
    files,
    required = false,
    sizeBytes = 1024 * 1024,
    limits = {},
  }: ServedTlsOptions): Promise<ServedTls> {
    const folder = mkdtempSync(join(tmpdir(), 'sheepdog-tls-'));
    const device = new FileDevice({ path: join(folder, 'disk'), sizeBytes });
    const shared: FileDevice = Object.assign(Object.create(device), {
      info: device.info,
      [Symbol.asyncDispose]: async () => undefined, // the file stays open for others
    });
    for (const name of CALLS) Object.assign(shared, { [name]: device[name].bind(device) });
    const opened: (Proof | undefined)[] = [];
    const log: { name: string; facts: Facts }[] = [];
    const [net, tls] = [await openNodeNet(), await openServerTls(files)];
    const socket = join(folder, 'nbd.sock');
    const server = await serveNbd({
      ...{ net, clock: nodeClock(), limits, tls: { side: tls, required } },
      log: { event: (_level, name, facts = {}) => void log.push({ name, facts }) },
      exports: {
        list: async () => [{ name: 'disk', description: '' }],
        info: async (name) => (name === 'disk' ? device.info : undefined),
        open: async (name, { proof }) => {
          opened.push(proof);
          return name === 'disk' ? shared : undefined;
        },
      },
      addresses: ['127.0.0.1:0', `unix:${socket}`],
      fatal: (error) => {
        throw error;
      },
    });
    return new ServedTls({ server, tls, net, socket, opened, log }, async () => {
      await server.drain(1000);
      await device[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });
  }

  get address(): string {
    return this.server.addresses[0] ?? '';
  }
  get port(): number {
    return Number(this.address.split(':')[1]);
  }
  named(name: string): readonly Facts[] {
    return this.log.filter((event) => event.name === name).map(({ facts }) => facts);
  }
  /** A client in the clear, greeted. */
  async greeted(): Promise<TestClient> {
    const client = await TestClient.connect(this.net, this.address);
    await client.greet();
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

const CALLS = [
  'read',
  'write',
  'flush',
  'trim',
  'writeZeroes',
  'extents',
  'zeroNow',
  'prefetch',
] as const;
