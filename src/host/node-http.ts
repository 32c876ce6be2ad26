import type { Server } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Address, Listener } from '../contracts/net.ts';
import type { HttpsOptions } from '../contracts/tls.ts';
import { bindServer } from './bind.ts';
import { NodeServerTls } from './node-tls.ts';

/**
 * Lets an HTTP server listen; with `https`, inside TLS, and only for clients that have proven a
 * certificate. Disposing ends the listening and closes the connections that have no request under
 * way; the others end with their answer.
 * @throws SheepError as `Net.listen` does
 */
export async function listenHttp(
  server: Server,
  address: Address,
  https?: HttpsOptions,
): Promise<Listener> {
  if (https !== undefined) return listenHttps(server, address, https);
  const real = await bindServer(server, address);
  return {
    address: real,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeIdleConnections();
    },
  };
}

/**
 * The connections come through the same TLS as those of NBD, so that what is reloaded there holds
 * here too: a server of node:https would have to be told of it.
 */
async function listenHttps(
  server: Server,
  address: Address,
  { tls, refused }: HttpsOptions,
): Promise<Listener> {
  assert(tls instanceof NodeServerTls, 'TLS is for sockets of this machine');
  const entering = new Set<AbortController>();
  let stopped = false;
  const door = createServer({ noDelay: true }, async (socket) => {
    const client = socket.remoteAddress ?? 'gone';
    // Of its own, and gone with the handshake: signals that outlive it would pile up.
    const ending = new AbortController();
    const late = setTimeout(() => ending.abort(tooLate()), server.headersTimeout);
    entering.add(ending);
    try {
      server.emit('connection', await enter(tls, socket, ending.signal));
    } catch (cause) {
      if (!stopped) refused(client, cause);
    } finally {
      clearTimeout(late);
      entering.delete(ending);
    }
  });
  door.maxConnections = server.maxConnections;
  const real = await bindServer(door, address);
  door.on('error', () => undefined); // one connection less
  // It watches the time that requests take from here on.
  server.emit('listening');
  return {
    address: real,
    [Symbol.asyncDispose]: async () => {
      door.close();
      stopped = true;
      for (const ending of entering) ending.abort();
      server.close();
      server.closeIdleConnections();
    },
  };
}

function tooLate(): SheepError {
  return new SheepError('ERR_IO', 'the TLS handshake took too long');
}

async function enter(tls: NodeServerTls, socket: Socket, signal: AbortSignal) {
  socket.on('error', () => undefined); // what happened is told by TLS
  const { socket: secure, proof } = await tls.enter(socket, { signal });
  if (proof.kind === 'certificate') return secure;
  secure.destroy();
  throw new SheepError('ERR_FORBIDDEN', 'a certificate is needed here, and a key was shown');
}
