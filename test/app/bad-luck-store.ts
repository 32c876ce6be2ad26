import { createHash } from 'node:crypto';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openNodeNet } from '../../src/host/node-net.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { COLLIE, Daemon, type Ended, run, SHEEP } from './daemon.ts';

/** A store in a folder of its own, and daemons on it. */
export interface TestStore extends AsyncDisposable {
  /** The folder around the store. */
  readonly path: string;
  readonly store: string;
  /** Addresses in `path`; NBD is served on a TCP port as well. */
  readonly nbdSocket: string;
  readonly adminSocket: string;
  start(...more: readonly string[]): Promise<Daemon>;
  /** Runs one that is expected to end by itself. */
  refused(): Promise<Ended>;
  collie(...words: readonly string[]): Promise<Ended>;
}

/** @param folder  where to put it, and what to do about it in the end; absent: a temporary folder */
export async function testStore(
  folder?: AsyncDisposable & { readonly path: string },
): Promise<TestStore> {
  const directory = folder ?? (await scratch());
  const { path } = directory;
  const store = `${path}/store`;
  const nbdSocket = `unix:${path}/nbd.sock`;
  const adminSocket = `unix:${path}/admin.sock`;
  const args = [store, '-n', '127.0.0.1:0', '-n', nbdSocket, '--admin', adminSocket];
  return {
    ...{ path, store, nbdSocket, adminSocket },
    start: (...more) => Daemon.start([...args, ...more]),
    refused: () => run(SHEEP, args),
    collie: (...words) => run(COLLIE, ['-a', adminSocket, ...words]),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** A client of one export, by what a test wants to say. */
export class Attached implements AsyncDisposable {
  readonly client: TestClient;

  private constructor(client: TestClient) {
    this.client = client;
  }

  static async to(address: string, name: string): Promise<Attached> {
    const client = await TestClient.connect(await openNodeNet(), address);
    await client.go(name);
    return new Attached(client);
  }

  /** Writes `length` bytes of `value`; the error number of the answer. */
  async write(offset: number, length: number, value: number): Promise<number> {
    const payload = new Uint8Array(length).fill(value);
    return (await this.client.request({ type: CMD.WRITE, offset, payload })).errno;
  }
  async trim(offset: number, length: number): Promise<number> {
    return (await this.client.request({ type: CMD.TRIM, offset, length })).errno;
  }
  async flush(): Promise<number> {
    return (await this.client.request({ type: CMD.FLUSH })).errno;
  }
  /** The one value that all these bytes have; `'mixed'`, or the error as `'errno 5'`. */
  async read(offset: number, length: number): Promise<number | string> {
    const { errno, data } = await this.client.request({ type: CMD.READ, offset, length });
    if (errno !== 0) return `errno ${errno}`;
    const [first = -1] = data;
    return data.every((byte) => byte === first) ? first : 'mixed';
  }

  /** Settles when the daemon has noticed as well. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.client.stream.end();
    await this.client.gone;
  }
}

/** Every file below a folder with a digest of its bytes; sockets are left out. */
export async function digestOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const digests: Record<string, string> = {};
  for (const path of files) {
    digests[path] = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  }
  return digests;
}

/** What a medium does to a file: one bit of one byte changes. */
export async function flipBit(path: string, at: number, mask = 0x01): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, at);
  await file.write(Uint8Array.of((byte[0] as number) ^ mask), 0, 1, at);
}

/** Memory of a daemon that is really there, in bytes. */
export async function residentBytes({ child }: Daemon): Promise<number> {
  const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** How many descriptors a daemon has open: connections that are over must give theirs back. */
export async function openDescriptors({ child }: Daemon): Promise<number> {
  return (await readdir(`/proc/${child.pid}/fd`)).length;
}

export const logged = (daemon: Daemon, event: string) =>
  daemon.log.filter((line) => line['event'] === event);
