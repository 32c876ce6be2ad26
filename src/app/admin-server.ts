import { type FastifyInstance, type FastifyReply, fastify } from 'fastify';
import { describeError, FAULTS, plainFacts, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { seldomer } from '../base/seldom.ts';
import { KiB } from '../base/units.ts';
import { type Door, refusalOf } from './admin-guard.ts';
import type { ErrorView } from './admin-views.ts';

/** What a stranger at the admin port can make us hold, and for how long. */
export const ADMIN_LIMITS = {
  bodyBytes: 64 * KiB,
  connections: 64,
  /** Until the last byte of a request has come, from its first or from the connection on. */
  requestMs: 10_000,
  /** How often that is looked at. */
  sweepMs: 1_000,
  /** Of a connection without a request. */
  idleMs: 30_000,
  /** Names have 255 bytes, which may be written as `%xx`. */
  parameterCharacters: 3 * 255,
} as const;
export type AdminLimits = { readonly [K in keyof typeof ADMIN_LIMITS]: number };

/**
 * An HTTP server of the admin API without its routes: who may come in, how large a request may be,
 * and how errors look: `{code, message, facts}`, with the status that base/errors.ts gives.
 */
export function adminServer(
  door: Door,
  log: Log,
  limits: AdminLimits = ADMIN_LIMITS,
): FastifyInstance {
  const server = fastify({
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    http: { headersTimeout: limits.requestMs, connectionsCheckingInterval: limits.sweepMs },
    keepAliveTimeout: limits.idleMs,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: limits.parameterCharacters },
    // What is wrong before there is a route: a URL that cannot be decoded, a name that is too long.
    frameworkErrors: (error, { raw }, reply: FastifyReply) => {
      const { status, body } = errorAnswer(error);
      // No hook looks at these: an upgrade of such a request would stay open, read by nobody.
      if (raw.headers.upgrade !== undefined) reply.raw.once('finish', () => raw.socket.destroy());
      void reply.code(status).send(body);
    },
    // A field too many is a mistake that is told, not a field to be dropped or converted.
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false } },
  });
  server.server.maxConnections = limits.connections;
  const seldom = seldomer();
  server.addHook('onRequest', async ({ headers, method }, reply) => {
    const { host, origin, authorization } = headers;
    const refusal = refusalOf({ host, origin, authorization }, door);
    if (refusal === undefined) return;
    seldom((refused) => {
      log.event('warn', 'admin.refused', { method, status: refusal.status, refused });
    });
    if (refusal.status === 401) reply.header('www-authenticate', 'Bearer');
    await reply
      .code(refusal.status)
      .send({ code: 'ERR_FORBIDDEN', message: refusal.message, facts: {} });
  });
  server.setNotFoundHandler(({ method, url }, reply) =>
    reply.code(404).send({
      code: 'ERR_NOT_FOUND',
      message: `there is no ${method} ${url.slice(0, 200)}; 'collie --help' shows what there is`,
      facts: {},
    }),
  );
  server.setErrorHandler((error, { method, url }, reply) => {
    const { status, body } = errorAnswer(error);
    if (status >= 500 && !(isAbort(error) && reply.raw.destroyed)) {
      const facts = { method, url: url.slice(0, 200), status, cause: describeError(error) };
      log.event('error', 'admin.failed', facts);
    }
    return reply.code(status).send(body);
  });
  return server;
}

/** How an error is told: its status, and what says why. */
export function errorAnswer(error: unknown): { status: number; body: ErrorView } {
  if (error instanceof SheepError) {
    const body = {
      code: error.code,
      message: describeError(error),
      facts: plainFacts(error.facts),
    };
    return { status: FAULTS[error.code].http, body };
  }
  const status = statusOf(error);
  if (status >= 400 && status < 500) {
    return {
      status,
      body: { code: 'ERR_BAD_INPUT', message: describeError(error), facts: {} },
    };
  }
  return {
    status: 500,
    body: {
      code: 'ERR_INTERNAL',
      message: `an error of sheep: ${describeError(error)}`,
      facts: {},
    },
  };
}

/** What was asked for ended because nobody waits for it any more. */
function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** Fastify's own refusals of a request carry their status. */
function statusOf(error: unknown): number {
  if (!(error instanceof Error) || !('statusCode' in error)) return 500;
  return typeof error.statusCode === 'number' ? error.statusCode : 500;
}
