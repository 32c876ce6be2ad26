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
  const stopped = new AbortController();
  const door = createServer({ noDelay: true }, (socket) => {
    const client = socket.remoteAddress ?? 'gone';
    const late = AbortSignal.timeout(server.headersTimeout);
    const signal = AbortSignal.any([late, stopped.signal]);
    enter(tls, socket, signal).then(
      (secure) => server.emit('connection', secure),
      (cause) => {
        if (!stopped.signal.aborted) refused(client, cause);
      },
    );
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
      stopped.abort();
      server.close();
      server.closeIdleConnections();
    },
  };
}

async function enter(tls: NodeServerTls, socket: Socket, signal: AbortSignal) {
  socket.on('error', () => undefined); // what happened is told by TLS
  const { socket: secure, proof } = await tls.enter(socket, { signal });
  if (proof.kind === 'certificate') return secure;
  secure.destroy();
  throw new SheepError('ERR_FORBIDDEN', 'a certificate is needed here, and a key was shown');
}
