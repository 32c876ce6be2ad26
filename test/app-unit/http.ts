import { request } from 'node:http';
import { parseAddress } from '../../src/base/address.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  /** What it says as JSON; a getter: not every answer is. */
  readonly body: Record<string, unknown>;
}

/** One request with exactly these headers (and `Host`, unless they say it). */
export function http(
  address: string,
  method: string,
  path: string,
  { headers = {}, body = '' }: { headers?: Record<string, string>; body?: string } = {},
): Promise<HttpAnswer> {
  const where = parseAddress(address);
  const target = 'path' in where ? { socketPath: where.path } : where;
  return new Promise((resolve, reject) => {
    const sent = request({ ...target, method, path, headers, agent: false }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      resolve({
        ...{ status: answer.statusCode ?? 0, headers: answer.headers, text },
        get body() {
          return JSON.parse(text);
        },
      });
    });
    sent.on('error', reject).end(body);
  });
}
