import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';

/** The part of `GET /v1/stats` that we read. */
interface Stats {
  readonly process: { readonly eventLoopDelayMs: { readonly p99: number; readonly max: number } };
}

/** What an admin request answers, and how long that took. @throws Error with the answer's words */
export async function askAdmin(
  adminSocket: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: object,
): Promise<{ answer: unknown; ms: number }> {
  const startedMs = performance.now();
  const headers = { 'content-type': 'application/json' };
  const asked = request({ socketPath: adminSocket, path, method, ...(body && { headers }) });
  asked.end(body && JSON.stringify(body));
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  const said = await text(answer);
  const ms = performance.now() - startedMs;
  if ((answer.statusCode ?? 0) >= 300) throw new Error(`${method} ${path}: ${said}`);
  return { answer: JSON.parse(said), ms };
}

/** How late a sheep's timers came since the last time this was asked. */
export async function eventLoopDelayMs(
  adminSocket: string,
): Promise<Stats['process']['eventLoopDelayMs']> {
  const { answer } = await askAdmin(adminSocket, 'GET', '/v1/stats');
  return (answer as Stats).process.eventLoopDelayMs;
}
