import { chmod, chown, readFile, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server, Socket } from 'node:net';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type {
  Address,
  ByteStream,
  Listener,
  ListenOptions,
  Net,
  StreamEvents,
} from '../contracts/net.ts';
import { adopt, adoptionWorks, onRead, ReceiveRooms } from './receive-buffer.ts';

/** A dead peer is noticed after about a minute and a half, and frees what it holds. */
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Sockets of this machine. `fixedMemory: false` forces the slower way of receiving. */
export async function openNodeNet(options: { fixedMemory?: boolean } = {}): Promise<Net> {
  const fixedMemory = options.fixedMemory ?? (await adoptionWorks());
  return {
    listen: (address, accept, listening = {}) => listen(address, accept, listening, fixedMemory),
    dial: (address) => dial(address, fixedMemory),
  };
}

class NodeStream implements ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  readonly #socket: Socket;
  readonly #rooms: ReceiveRooms;
  #events: StreamEvents | undefined;
  #paused = false;
  #cause: Error | undefined;

  /** @param make  makes the socket, which passes what it received to the given function */
  constructor(
    peerName: string,
    transport: 'tcp' | 'unix',
    make: (rooms: ReceiveRooms, taken: (chunk: Uint8Array) => boolean) => Socket,
  ) {
    this.peerName = peerName;
    this.transport = transport;
    this.#rooms = new ReceiveRooms(() => this.#readOn());
    const socket = make(this.#rooms, (chunk) => this.#received(chunk));
    this.#socket = socket;
    socket.on('error', (cause) => {
      this.#cause = cause;
    });
    socket.on('end', () => this.#events?.ended());
    socket.on('close', () => this.#closed());
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  start(events: StreamEvents): void {
    assert(this.#events === undefined, 'a stream is started once');
    this.#events = events;
    if (this.#socket.destroyed) return this.#closed();
    if (this.transport === 'tcp') {
      this.#socket.setNoDelay(true);
      this.#socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
    }
    this.#socket.resume();
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }
  resume(): void {
    this.#paused = false;
    this.#readOn();
  }

  write(bytes: Uint8Array, done?: () => void): void {
    this.#socket.write(bytes, done);
  }
  end(): void {
    this.#socket.end();
  }
  destroy(): void {
    this.#socket.destroy();
  }

  /** For sockets without fixed memory: every chunk comes in memory of its own. */
  receiveFresh(): void {
    this.#socket.on('data', (chunk: Uint8Array) => {
      this.#rooms.fresh(chunk);
      const more = this.#received(chunk);
      this.#rooms.passed();
      if (!more) this.#socket.pause();
    });
    this.#socket.pause();
  }

  #received(chunk: Uint8Array): boolean {
    this.#events?.received(chunk, this.#rooms.loan);
    return !this.#paused && this.#rooms.mayRead;
  }
  #readOn(): void {
    if (!this.#paused && this.#rooms.mayRead && !this.#socket.destroyed) this.#socket.resume();
  }
  #closed(): void {
    this.#rooms.close();
    this.#events?.closed(this.#cause);
  }
}

async function listen(
  address: Address,
  accept: (stream: ByteStream) => void,
  options: ListenOptions,
  fixedMemory: boolean,
): Promise<Listener> {
  const where = parseAddress(address);
  const group = options.unixGroup === undefined ? undefined : await groupId(options.unixGroup);
  const server = createServer(
    { pauseOnConnect: true, allowHalfOpen: true, noDelay: true },
    (socket) => accept(accepted(socket, where, fixedMemory)),
  );
  await bind(server, where, address);
  server.on('error', (cause) => options.acceptFailed?.(cause));
  if ('path' in where) {
    if (group !== undefined) await chown(where.path, -1, group);
    await chmod(where.path, options.unixMode ?? 0o600);
  }
  return {
    address: realAddress(server, address),
    [Symbol.asyncDispose]: async () => {
      server.close(); // its callback waits for the connections, which are not ours to wait for
    },
  };
}

/** Listens; a unix socket file that nobody answers on any more is removed first. */
async function bind(server: Server, where: Where, address: Address): Promise<void> {
  try {
    await tryBind(server, where);
  } catch (cause) {
    if (codeOf(cause) !== 'EADDRINUSE') {
      throw new SheepError('ERR_IO', `cannot listen on ${address}`, { address }, cause);
    }
    if (!('path' in where) || (await answers(where.path))) {
      throw new SheepError('ERR_BUSY', `somebody listens on ${address} already`, { address });
    }
    await unlink(where.path);
    await tryBind(server, where);
  }
}

function tryBind(server: Server, where: Where): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // A socket file is made by listen() itself, before it returns: nobody can connect to it before
  // its mode and group are right.
  const umask = 'path' in where ? process.umask(0o177) : undefined;
  server.listen(where, () => {
    server.off('error', reject);
    resolve();
  });
  if (umask !== undefined) process.umask(umask);
  return promise;
}

function answers(path: string): Promise<boolean> {
  return new Promise((settle) => {
    const probe = createConnection(path);
    probe.on('connect', () => settle(true)).on('error', () => settle(false));
    probe.on('connect', () => probe.destroy());
  });
}

function accepted(socket: Socket, where: Where, fixedMemory: boolean): ByteStream {
  const transport = 'path' in where ? 'unix' : 'tcp';
  const name = 'path' in where ? `unix:${where.path}` : peerName(socket);
  if (fixedMemory) {
    return new NodeStream(name, transport, (rooms, taken) => adopt(socket, rooms, taken));
  }
  const stream = new NodeStream(name, transport, () => socket);
  stream.receiveFresh();
  return stream;
}

async function dial(address: Address, fixedMemory: boolean): Promise<ByteStream> {
  const where = parseAddress(address);
  let socket: Socket | undefined;
  const stream = new NodeStream(address, 'path' in where ? 'unix' : 'tcp', (rooms, taken) => {
    const memory = fixedMemory ? { onread: onRead(rooms, taken) } : {};
    socket = new Socket({ allowHalfOpen: true, ...memory });
    return socket;
  });
  if (!fixedMemory) stream.receiveFresh();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  assert(socket !== undefined, 'the stream has made its socket');
  socket.pause();
  socket.once('error', reject).connect(where, resolve);
  try {
    await promise;
  } catch (cause) {
    throw new SheepError('ERR_IO', `nobody answers at ${address}`, { address }, cause);
  }
  socket.off('error', reject);
  return stream;
}

type Where = { readonly path: string } | { readonly host: string; readonly port: number };

/** @throws SheepError `ERR_BAD_INPUT` */
export function parseAddress(address: Address): Where {
  const bad = (why: string) => new SheepError('ERR_BAD_INPUT', `${why}: ${address}`, { address });
  if (address.startsWith('unix:')) {
    const path = address.slice('unix:'.length);
    // The kernel's limit; Node would cut a longer path silently.
    if (path.length === 0 || Buffer.byteLength(path) > 107 || path.includes('\0')) {
      throw bad('a unix socket needs a path of 1 to 107 bytes');
    }
    return { path };
  }
  const parts = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  if (host === undefined || port > 65_535) {
    throw bad('an address is host:port, [v6]:port or unix:PATH');
  }
  return { host, port };
}

function realAddress(server: Server, asked: Address): Address {
  const real = server.address();
  if (real === null || typeof real === 'string') return asked;
  return hostPort(real.address, real.port);
}
function peerName(socket: Socket): string {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined ? 'gone' : hostPort(remoteAddress, remotePort ?? 0);
}
function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The number of a group of this machine. */
async function groupId(group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group);
  const groups = await readFile('/etc/group', 'utf8');
  const line = groups.split('\n').find((entry) => entry.startsWith(`${group}:`));
  const id = line?.split(':')[2];
  if (id === undefined)
    throw new SheepError('ERR_BAD_INPUT', `no group is named ${group}`, { group });
  return Number(id);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
