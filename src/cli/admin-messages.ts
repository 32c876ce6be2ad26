import type { IncomingMessage, RequestOptions } from 'node:http';
import { WebSocket } from 'ws';
import { formatHostPort } from '../base/address.ts';
import { MiB } from '../base/units.ts';

const OPEN_MS = 10_000;
const MESSAGE_BYTES_MAX = 1 * MiB;

/** A WebSocket that is open. */
export interface Messages {
  /** Settles when it is closed, with what the other side said why. */
  readonly closed: Promise<string>;
}

/**
 * Opens a WebSocket at `path` of a server and calls `each` with every message.
 * @param target  where, and with which headers, as for a request
 * @returns an answer instead, if the server gives one: it refuses
 * @throws what Node does if nobody answers
 */
export function openMessages(
  target: RequestOptions,
  path: string,
  each: (text: string) => void,
): Promise<Messages | { readonly refusal: IncomingMessage }> {
  const { socketPath, host, port, ...options } = target;
  const unix = typeof socketPath === 'string';
  const authority = unix ? 'localhost' : formatHostPort(host ?? '', Number(port));
  const socket = new WebSocket(`ws://${authority}${path}`, {
    ...(options as object),
    ...{ handshakeTimeout: OPEN_MS, maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false },
  });
  // Before it is open: the first messages come together with the opening.
  socket.on('message', (data) => each(String(data)));
  const closed = new Promise<string>((settle) => {
    socket.once('close', (_code, reason) => settle(reason.toString('utf8')));
  });
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve({ closed }));
    // Later it tells what has broken the connection; that it is closed is told as well.
    socket.on('error', reject);
    socket.once('unexpected-response', (_request, refusal) => resolve({ refusal }));
  });
}
