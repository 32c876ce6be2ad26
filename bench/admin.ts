import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import type { Durations } from '../src/base/histogram.ts';

/** The part of `GET /v1/stats` that we read. */
interface Stats {
  readonly process: { readonly loopDelays: Durations };
  readonly farm: { readonly listedObjects: number };
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

/** How late a sheep's timers came since its start. */
export async function loopDelays(adminSocket: string): Promise<Durations> {
  return (await stats(adminSocket)).process.loopDelays;
}

/** How many of its objects a sheep holds for changing: those that rest are none of them. */
export async function listedObjects(adminSocket: string): Promise<number> {
  return (await stats(adminSocket)).farm.listedObjects;
}

async function stats(adminSocket: string): Promise<Stats> {
  return (await askAdmin(adminSocket, 'GET', '/v1/stats')).answer as Stats;
}
