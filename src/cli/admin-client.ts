import { readFileSync } from 'node:fs';
import { type IncomingMessage, type RequestOptions, request } from 'node:http';
import type { ErrorView } from '../app/admin-views.ts';
import { parseAddress } from '../base/address.ts';
import { describeError, FAULTS, type FaultCode, SheepError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { ADMIN_TCP_DEFAULT, DIRECTORY_DEFAULT } from '../config/load.ts';

/** One request to the admin API. @throws SheepError what the sheep answered, or why none did */
export type AdminCall = <View>(
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: object,
) => Promise<View>;

const ANSWER_BYTES_MAX = 64 * MiB;
/** A deletion is answered when the last object is gone; anything else takes no time. */
const SILENCE_MS = { DELETE: 24 * 60 * 60 * 1000, GET: 60_000, POST: 60_000 } as const;

const DEFAULT_ADDRESSES = [`unix:${DIRECTORY_DEFAULT}/admin.sock`, ADMIN_TCP_DEFAULT] as const;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Calls the sheep at `address`, or, without one, the first of the usual places where one answers.
 * @param environment  COLLIE_TOKEN_FILE names the file with the token that TCP needs
 */
export function adminClient(address: string | undefined, environment: Environment): AdminCall {
  const places = address === undefined ? DEFAULT_ADDRESSES : [address];
  for (const place of places) parseAddress(place);
  return async (method, path, body) => {
    for (const place of places) {
      const answer = await send(place, environment, method, path, body);
      if (answer !== undefined) return readAnswer(answer.status, answer.text, place);
    }
    throw new SheepError(
      'ERR_IO',
      `no sheep answers at ${places.join(' or ')}; start one, or give its address with -a`,
    );
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Undefined if nobody listens there. */
async function send(
  place: string,
  environment: Environment,
  method: keyof typeof SILENCE_MS,
  path: string,
  body?: object,
): Promise<Answer | undefined> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const options: RequestOptions = {
    ...target(place, environment),
    ...{ method, path, agent: false, timeout: SILENCE_MS[method] },
  };
  try {
    return await exchange(options, text);
  } catch (cause) {
    if (cause instanceof SheepError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    const hint = code === 'EACCES' ? '; run collie as the user that sheep runs as' : '';
    throw new SheepError('ERR_IO', `no answer from ${place}${hint}`, { place }, cause);
  }
}

function target(place: string, environment: Environment): RequestOptions {
  const where = parseAddress(place);
  if ('path' in where) return { socketPath: where.path, headers: { host: 'localhost' } };
  if ('fd' in where) throw new SheepError('ERR_BAD_INPUT', 'give host:port or unix:/path with -a');
  const { host, port } = where;
  const token = readToken(environment);
  return { host, port, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } };
}

/** Undefined if there is none in the usual place: what answers says then what it needs. */
function readToken(environment: Environment): string | undefined {
  const named = environment['COLLIE_TOKEN_FILE'];
  try {
    return readFileSync(named ?? `${DIRECTORY_DEFAULT}/admin.token`, 'utf8').trim();
  } catch (cause) {
    if (named === undefined) return undefined;
    const message = `cannot read ${named}, which COLLIE_TOKEN_FILE names`;
    throw new SheepError('ERR_IO', message, { path: named }, cause);
  }
}

function exchange(options: RequestOptions, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(options, (answer) => {
      collect(answer).then((text) => resolve({ status: answer.statusCode ?? 0, text }), reject);
    });
    sent.on('error', reject);
    sent.on('timeout', () => sent.destroy(new Error('it was silent for too long')));
    if (body !== '') sent.setHeader('content-type', 'application/json');
    sent.end(body);
  });
}

async function collect(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new Error('the answer is too long');
  }
  return Buffer.concat(chunks).toString('utf8');
}

function readAnswer<View>(status: number, text: string, place: string): View {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SheepError('ERR_IO', `what answers at ${place} is no sheep`, { status }, cause);
  }
  if (status < 400) return value as View;
  const { code, message } = value as Partial<ErrorView>;
  throw new SheepError(
    code !== undefined && isFaultCode(code) ? code : 'ERR_IO',
    message ?? `the sheep at ${place} answered with status ${status}`,
    { status },
  );
}

function isFaultCode(code: string): code is FaultCode {
  return Object.hasOwn(FAULTS, code);
}

/** One line for a terminal: whatever a message quotes, it moves no cursor. */
export function printable(error: unknown): string {
  return describeError(error).replace(/\p{Cc}+/gu, ' ');
}
