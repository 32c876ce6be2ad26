import type { IncomingMessage, RequestOptions } from 'node:http';
import { getBuiltinModule } from 'node:process';
import type { ErrorView } from '../app/admin-views.ts';
import { parseAdminAddress } from '../base/address.ts';
import { describeError, FAULTS, type FaultCode, SheepError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { ADMIN_TCP_DEFAULT, DIRECTORY_DEFAULT } from '../config/defaults.ts';
import { type Credentials, noAnswer, requestTarget } from './admin-place.ts';

/** One request to the admin API. @throws SheepError what the sheep answered, or why none did */
export type AdminCall = <View>(method: Method, path: string, body?: object) => Promise<View>;

/**
 * A request that is answered by lines, each when it is known.
 * @param each  called with every line but the last, which is the result
 * @throws SheepError as a call; `ERR_IO` if the answer broke off
 */
export type AdminLines = <Line extends AnyLine>(
  method: Method,
  path: string,
  each: (line: Exclude<Line, { is: 'end' | 'error' }>) => void,
  body?: object,
) => Promise<Extract<Line, { is: 'end' }>>;

/**
 * Messages of a WebSocket, each a text, until the other side ends them; that is never what was asked
 * for.
 * @throws SheepError as a call; `ERR_IO` once they have ended
 */
export type AdminMessages = (path: string, each: (text: string) => void) => Promise<never>;

interface AnyLine {
  readonly is: string;
  readonly error?: object;
}

/** An import of it would load all that it can give, and with that a client of WebSockets. */
const { request } = getBuiltinModule('node:http');

type Method = keyof typeof SILENCE_MS;

const ANSWER_BYTES_MAX = 64 * MiB;
/** A change is answered once all of it is done, a deletion when the last object is gone. */
const SILENCE_MS = {
  DELETE: 24 * 60 * 60 * 1000,
  POST: 24 * 60 * 60 * 1000,
  PATCH: 24 * 60 * 60 * 1000,
  GET: 60_000,
} as const;

const DEFAULT_ADDRESSES = [`unix:${DIRECTORY_DEFAULT}/admin.sock`, ADMIN_TCP_DEFAULT] as const;

export interface AdminClient {
  readonly call: AdminCall;
  readonly lines: AdminLines;
  readonly messages: AdminMessages;
}

/** Calls the sheep at `address`, or, without one, the first of the usual places where one answers. */
export function adminClient(address: string | undefined, credentials: Credentials): AdminClient {
  const places = address === undefined ? DEFAULT_ADDRESSES : [address];
  for (const place of places) parseAdminAddress(place);
  const first = async <T>(
    ask: (place: string) => Promise<T>,
  ): Promise<{ place: string; got: T }> => {
    for (const place of places) {
      const got = await unlessNobody(place, () => ask(place));
      if (got !== undefined) return { place, got };
    }
    throw new SheepError(
      'ERR_IO',
      `no sheep answers at ${places.join(' or ')}; start one, or give its address with -a`,
    );
  };
  const ask = async (method: Method, path: string, body?: object): Promise<Answer> => {
    const send = async (place: string) =>
      exchange(await requestTarget(place, credentials), method, path, body);
    const { place, got } = await first(send);
    return { place, incoming: got };
  };
  return {
    call: async (method, path, body) => readAnswer(await ask(method, path, body)),
    lines: async (method, path, each, body) => readLines(await ask(method, path, body), each),
    messages: async (path, each) => {
      const { openMessages } = await import('./admin-messages.ts');
      const open = async (place: string) =>
        openMessages(await requestTarget(place, credentials), path, each);
      const { place, got } = await first(open);
      if ('refusal' in got) return readAnswer({ place, incoming: got.refusal });
      const why = await got.closed;
      throw new SheepError('ERR_IO', `the sheep at ${place} has ended it: ${why || 'it is gone'}`);
    },
  };
}

interface Answer {
  readonly place: string;
  readonly incoming: IncomingMessage;
}

/** What `ask` gives; undefined if nobody listens there. */
async function unlessNobody<T>(place: string, ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (cause) {
    if (cause instanceof SheepError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    throw noAnswer(place, cause);
  }
}

/** Sends a request; the head of the answer. */
function exchange(
  where: RequestOptions,
  method: Method,
  path: string,
  body?: object,
): Promise<IncomingMessage> {
  // An agent would make connections in its own way.
  const agent = where.createConnection === undefined ? { agent: false } : {};
  const options = { ...where, ...agent, method, path, timeout: SILENCE_MS[method] };
  return new Promise((resolve, reject) => {
    const sent = request(options, resolve);
    sent.on('error', reject);
    sent.on('timeout', () => sent.destroy(new Error('it was silent for too long')));
    if (body !== undefined) sent.setHeader('content-type', 'application/json');
    sent.end(body && JSON.stringify(body));
  });
}

async function collect({ place, incoming }: Answer): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of incoming) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > ANSWER_BYTES_MAX) throw new Error('the answer is too long');
    }
  } catch (cause) {
    throw noAnswer(place, cause);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function readAnswer<View>(answer: Answer): Promise<View> {
  const status = answer.incoming.statusCode ?? 0;
  const value = parsed(await collect(answer), answer);
  if (status < 400) return value as View;
  throw refusal(value, answer);
}

async function readLines<Line extends AnyLine>(
  answer: Answer,
  each: (line: Exclude<Line, { is: 'end' | 'error' }>) => void,
): Promise<Extract<Line, { is: 'end' }>> {
  if ((answer.incoming.statusCode ?? 0) >= 400) return readAnswer(answer);
  for await (const text of textLines(answer)) {
    const line = parsed(text, answer) as Line;
    if (line.is === 'error') throw refusal(line.error ?? {}, answer);
    if (line.is === 'end') return line as Extract<Line, { is: 'end' }>;
    each(line as Exclude<Line, { is: 'end' | 'error' }>);
  }
  throw brokeOff(answer);
}

async function* textLines(answer: Answer): AsyncGenerator<string> {
  const { incoming } = answer;
  incoming.setEncoding('utf8');
  let begun: string[] = [];
  let characters = 0;
  try {
    for await (const chunk of incoming) {
      const [end, ...lines] = (chunk as string).split('\n') as [string, ...string[]];
      begun.push(end);
      characters += end.length;
      if (characters > ANSWER_BYTES_MAX) throw new Error('a line of it is too long');
      const next = lines.pop();
      if (next === undefined) continue;
      yield begun.join('');
      yield* lines;
      begun = [next];
      characters = next.length;
    }
  } catch (cause) {
    throw brokeOff(answer, cause);
  }
}

function brokeOff({ place }: Answer, cause?: unknown): SheepError {
  const message = `the answer of ${place} broke off; is the sheep still there?`;
  return new SheepError('ERR_IO', message, { place }, cause);
}

/** @throws SheepError `ERR_IO` for what is no JSON object */
function parsed(text: string, { place, incoming: { statusCode: status } }: Answer): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch (cause) {
    throw new SheepError('ERR_IO', `what answers at ${place} is no sheep`, { status }, cause);
  }
  throw new SheepError('ERR_IO', `what answers at ${place} is no sheep`, { status });
}

function refusal(view: object, { place, incoming }: Answer): SheepError {
  const { code, message }: Partial<ErrorView> = view;
  const status = incoming.statusCode ?? 0;
  if (code !== undefined && isFaultCode(code) && message !== undefined) {
    return new SheepError(code, message, { status });
  }
  // What is not of our making: a sheep that is stopping answers so, or something between us.
  const why = status === 503 ? 'is stopping' : `answered with status ${status}`;
  const said = message === undefined ? '' : `: ${message}`;
  return new SheepError('ERR_IO', `the sheep at ${place} ${why}${said}`, { status });
}

function isFaultCode(code: string): code is FaultCode {
  return Object.hasOwn(FAULTS, code);
}

/** One line for a terminal: whatever a message quotes, it moves no cursor. */
export function printable(error: unknown): string {
  return describeError(error).replace(/\p{Cc}+/gu, ' ');
}
