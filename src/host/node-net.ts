import { createServer, Socket } from 'node:net';
import { formatAddress, formatHostPort, parseAddress, type Where } from '../base/address.ts';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Call } from '../contracts/call.ts';
import type { Address, ByteStream, Listener, ListenOptions, Net } from '../contracts/net.ts';
import { bindServer, named } from './bind.ts';
import { NodeStream } from './node-stream.ts';
import { adopt, adoptionWorks, onRead } from './receive-buffer.ts';

/** Sockets of this machine. `fixedMemory: false` forces the slower way of receiving. */
export async function openNodeNet(options: { fixedMemory?: boolean } = {}): Promise<Net> {
  const fixedMemory = options.fixedMemory ?? (await adoptionWorks());
  return {
    listen: (address, accept, listening = {}) => listen(address, accept, listening, fixedMemory),
    dial: (address, call = {}) => dial(address, fixedMemory, call),
  };
}

async function listen(
  address: Address,
  accept: (stream: ByteStream) => void,
  options: ListenOptions,
  fixedMemory: boolean,
): Promise<Listener> {
  const where = named(parseAddress(address));
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
