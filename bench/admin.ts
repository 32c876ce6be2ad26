import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';

/** The part of `GET /v1/stats` that we read. */
interface Stats {
  readonly process: { readonly eventLoopDelayMs: { readonly p99: number; readonly max: number } };
}

/** How late a sheep's timers came since the last time this was asked. */
export async function eventLoopDelayMs(
  adminSocket: string,
): Promise<Stats['process']['eventLoopDelayMs']> {
  const asked = request({ socketPath: adminSocket, path: '/v1/stats' }).end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  const body = await text(answer);
  if (answer.statusCode !== 200) throw new Error(`/v1/stats: ${answer.statusCode} ${body}`);
  const { process } = JSON.parse(body) as Stats;
  return process.eventLoopDelayMs;
}
