import websocket, { type WebSocket } from '@fastify/websocket';
import type { FastifyInstance } from 'fastify';
import { SheepError } from '../base/errors.ts';
import { KiB, MiB } from '../base/units.ts';
import type { Clock } from '../contracts/seams.ts';
import type { AdminSubject } from './admin-subject.ts';

const LIMITS = {
  /** Subscribers at once, at one address; other requests need connections too. */
  subscribers: 16,
  /** Told and not yet taken: above, a subscriber is too slow. What is kept of the past fits. */
  untakenBytes: 2 * MiB,
  /** We are told nothing; only control frames come, and they are short. */
  messageBytes: 1 * KiB,
  /** A subscriber that does not answer a ping until the next one is gone. */
  pingMs: 30_000,
  /** How long he has to close his side. */
  closeMs: 1_000,
  /** Within this an upgrade has become a subscriber, or its connection is closed. */
  upgradeMs: 10_000,
};

/** Why a WebSocket is closed (RFC 6455, "Defined Status Codes"). */
const CLOSE = { goingAway: 1001, unsupportedData: 1003 } as const;

/**
 * `GET /v1/events`: a WebSocket on which every event is told, one text message of JSON each
 * (`EventView`). `?after=N`: first those after number N that are still known; 0: all of them. It is
 * opened as any request is: with the same token, and never by a web page.
 */
export async function addEventRoutes(
  server: FastifyInstance,
  { events, clock }: Pick<AdminSubject, 'events' | 'clock'>,
): Promise<void> {
  let stopping = false;
  // For the whole server: what asks for an upgrade anywhere else has to be answered as well.
  await server.register(websocket, {
    options: { maxPayload: LIMITS.messageBytes },
    preClose: async () => {
      stopping = true;
      // Who asks for an upgrade from now on is answered as any other request is.
      server.server.removeAllListeners('upgrade');
      await endAll([...server.websocketServer.clients], clock);
    },
  });
  // Node's own answer, 417, is seen by nobody here: what is expected is left aside (RFC 9110, 10.1.1).
  server.server.on('checkExpectation', (request, response) => {
    server.server.emit('request', request, response);
  });
  closeLateUpgrades(server);
  closeStuckUpgrades(server, clock);
  // An upgrade that is refused before the plugin has seen it would stay open, read by nobody.
  server.addHook('onResponse', async ({ raw }) => {
    if (raw.headers.upgrade !== undefined) raw.socket.destroy();
  });
  server.route<{ Querystring: { readonly after?: string } }>({
    method: 'GET',
    url: '/v1/events',
    schema: {
      querystring: {
        type: 'object',
        additionalProperties: false,
        properties: { after: { type: 'string', pattern: '^\\d{1,15}$' } },
      },
    },
    preValidation: async ({ ws }) => {
      if (!ws || server.websocketServer.clients.size < LIMITS.subscribers) return;
      throw new SheepError(
        'ERR_LIMIT',
        `${LIMITS.subscribers} listen to the events already; end one of them first`,
      );
    },
    handler: (_request, reply) =>
      reply.code(426).header('upgrade', 'websocket').send({
        code: 'ERR_BAD_INPUT',
        message: "events are told over a WebSocket; 'collie events' opens one",
        facts: {},
      }),
    wsHandler: (socket, { query, ip }) => {
      if (stopping) {
        socket.terminate();
        return;
      }
      const gone = new AbortController();
      const end = events.subscribe(
        { name: ip ?? 'unix', told: (line) => told(socket, line) },
        query.after === undefined ? undefined : Number(query.after),
      );
      socket.once('close', () => {
        end();
        gone.abort();
      });
      socket.on('message', () => socket.close(CLOSE.unsupportedData, 'nothing is asked here'));
      void keepAlive(socket, clock, gone.signal);
    },
  });
}

/**
 * Who asks for an upgrade before an earlier request is answered is cut off. The plugin cannot give
 * such a socket an answer, and nobody would ever look at it again.
 */
function closeLateUpgrades({ server }: FastifyInstance): void {
  const unanswered = new WeakMap<object, number>();
  const count = (socket: object, more: number) =>
    unanswered.set(socket, (unanswered.get(socket) ?? 0) + more);
  server.on('request', ({ socket }, response) => {
    count(socket, 1);
    response.once('close', () => count(socket, -1));
  });
  server.on('upgrade', ({ socket }) => {
    if ((unanswered.get(socket) ?? 0) > 0) socket.destroy();
  });
}

/**
 * An upgrade that nobody has made a subscriber of is read by nobody, so that its end would not be
 * noticed either: whatever the reason, it does not stay.
 */
function closeStuckUpgrades({ server, websocketServer }: FastifyInstance, clock: Clock): void {
  const pending = new WeakMap<object, AbortController>();
  const settle = (socket: object) => pending.get(socket)?.abort();
  server.on('upgrade', ({ socket }) => {
    const settled = new AbortController();
    pending.set(socket, settled);
    socket.once('close', () => settled.abort());
    clock.sleep(LIMITS.upgradeMs, { signal: settled.signal }).then(
      () => socket.destroy(),
      () => undefined,
    );
  });
  websocketServer.on('connection', (_subscriber, { socket }) => settle(socket));
}

/** @returns false if what was told before has not been taken: then he is cut off */
function told(socket: WebSocket, line: string): boolean {
  if (socket.bufferedAmount <= LIMITS.untakenBytes) {
    socket.send(line);
    return true;
  }
  socket.terminate();
  return false;
}

/** The daemon stops: tells them, and cuts off who does not close his side in time. */
async function endAll(sockets: readonly WebSocket[], clock: Clock): Promise<void> {
  const over = new AbortController();
  const closed = sockets.map((socket) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.once('close', resolve);
    socket.close(CLOSE.goingAway, 'sheep is stopping');
    return promise;
  });
  const late = clock.sleep(LIMITS.closeMs, { signal: over.signal }).then(
    () => {
      for (const socket of sockets) socket.terminate();
    },
    () => undefined,
  );
  await Promise.race([Promise.all(closed), late]);
  over.abort();
}

/** Pings until the socket is closed, and closes it where no answer comes. */
async function keepAlive(socket: WebSocket, clock: Clock, signal: AbortSignal): Promise<void> {
  let answered = true;
  socket.on('pong', () => {
    answered = true;
  });
  while (!signal.aborted) {
    if (!answered) {
      socket.terminate();
      return;
    }
    answered = false;
    socket.ping();
    await clock.sleep(LIMITS.pingMs, { signal }).catch(() => undefined);
  }
}
