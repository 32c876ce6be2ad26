import { createServer, Socket } from 'node:net';
import { formatAddress, formatHostPort, parseAddress, type Where } from '../base/address.ts';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Call } from '../contracts/call.ts';
import type {
  Address,
  ByteStream,
  Listener,
  ListenOptions,
  Net,
  StreamEvents,
} from '../contracts/net.ts';
import { stayAwake } from './awake.ts';
import { bindServer } from './bind.ts';
import { adopt, adoptionWorks, onRead, ReceiveRooms } from './receive-buffer.ts';

/** A dead peer is noticed after about a minute and a half, and frees what it holds. */
const KEEP_ALIVE_DELAY_MS = 30_000;

/** Sockets of this machine. `fixedMemory: false` forces the slower way of receiving. */
export async function openNodeNet(options: { fixedMemory?: boolean } = {}): Promise<Net> {
  const fixedMemory = options.fixedMemory ?? (await adoptionWorks());
  return {
    listen: (address, accept, listening = {}) => listen(address, accept, listening, fixedMemory),
    dial: (address, call = {}) => dial(address, fixedMemory, call),
  };
}

class NodeStream implements ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  readonly peerAddress?: string;
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
    if (transport === 'tcp' && socket.remoteAddress !== undefined) {
      this.peerAddress = socket.remoteAddress;
    }
    socket.on('error', (cause) => {
      this.#cause = cause;
    });
    socket.on('end', () => this.#events?.ended());
    socket.on('close', () => this.#closed());
  }

  get unsentBytes(): number {
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  start(events: StreamEvents): void {
    assert(this.#events === undefined, 'a stream is started once');
    this.#events = events;
    if (this.#socket.destroyed) {
      this.#closed();
      return;
    }
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
    stayAwake();
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
  const server = createServer(
    { pauseOnConnect: true, allowHalfOpen: true, noDelay: true },
    (socket) => accept(accepted(socket, where, fixedMemory)),
  );
  const real = await bindServer(server, address, options);
  server.on('error', (cause) => options.acceptFailed?.(cause));
  return {
    address: real,
    [Symbol.asyncDispose]: async () => {
      server.close(); // its callback waits for the connections, which are not ours to wait for
    },
  };
}

function accepted(socket: Socket, where: Where, fixedMemory: boolean): ByteStream {
  const unix = 'path' in where || ('fd' in where && socket.remoteAddress === undefined);
  const transport = unix ? 'unix' : 'tcp';
  const name = unix ? formatAddress(where) : peerName(socket);
  if (fixedMemory) {
    return new NodeStream(name, transport, (rooms, taken) => adopt(socket, rooms, taken));
  }
  const stream = new NodeStream(name, transport, () => socket);
  stream.receiveFresh();
  return stream;
}

async function dial(address: Address, fixedMemory: boolean, { signal }: Call): Promise<ByteStream> {
  signal?.throwIfAborted();
  const where = parseAddress(address);
  if ('fd' in where) throw new SheepError('ERR_BAD_INPUT', `${address} cannot be dialled`);
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
  const aborted = () => {
    stream.destroy();
    reject(signal?.reason);
  };
  signal?.addEventListener('abort', aborted, { once: true });
  try {
    await promise;
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new SheepError('ERR_IO', `nobody answers at ${address}`, { address }, cause);
  } finally {
    signal?.removeEventListener('abort', aborted);
  }
  socket.off('error', reject);
  return stream;
}

function peerName(socket: Socket): string {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined ? 'gone' : formatHostPort(remoteAddress, remotePort ?? 0);
}
