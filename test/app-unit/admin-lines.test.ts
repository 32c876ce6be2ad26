import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { answerLines } from '../../src/app/admin-lines.ts';
import { adminServer } from '../../src/app/admin-server.ts';
import { SheepError } from '../../src/base/errors.ts';
import type { Call } from '../../src/contracts/call.ts';

type Lines = (call: Required<Call>) => AsyncGenerator<{ line: number }>;

/** A server with one route that answers with lines; `log`: names of the events at level error. */
async function serving(lines: Lines) {
  const log: string[] = [];
  const server = adminServer(
    { transport: 'unix' },
    { event: (level, name) => void (level === 'error' && log.push(name)) },
  );
  server.get('/', (_, reply) => answerLines(reply, lines));
  await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const ask = () => {
    const asked = request({ host: '127.0.0.1', port, agent: false });
    asked.on('error', () => undefined).end();
    return asked;
  };
  return { ask, log, [Symbol.asyncDispose]: () => server.close() };
}

async function textOf(asked: ReturnType<typeof request>): Promise<[number | undefined, string]> {
  const [answer] = await once(asked, 'response');
  let text = '';
  for await (const chunk of answer) text += chunk;
  return [answer.statusCode, text];
}

describe('an answer of lines', () => {
  test('has each of them as JSON', async () => {
    await using it = await serving(async function* () {
      yield { line: 1 };
      yield { line: 2 };
    });
    expect(await textOf(it.ask())).toEqual([200, '{"line":1}\n{"line":2}\n']);
  });

  test('that fails before the first one has the status of the failure', async () => {
    // biome-ignore lint/correctness/useYield: it fails before
    await using it = await serving(async function* () {
      throw new SheepError('ERR_NOT_FOUND', 'it is gone');
    });
    const [status, text] = await textOf(it.ask());
    expect([status, JSON.parse(text)]).toMatchObject([404, { code: 'ERR_NOT_FOUND' }]);
  });

  test('that fails later says so in its last line', async () => {
    await using it = await serving(async function* () {
      yield { line: 1 };
      throw new SheepError('ERR_IO', 'the disk is gone');
    });
    const [status, text] = await textOf(it.ask());
    expect([status, text]).toEqual([200, expect.stringMatching(/^{"line":1}\n{"is":"error".*\n$/)]);
  });

  test.for([0, 1])(
    'whose reader leaves after %i lines ends the work, and that is no error',
    async (before) => {
      const begun = Promise.withResolvers<void>();
      const over = Promise.withResolvers<unknown>();
      await using it = await serving(async function* ({ signal }) {
        try {
          for (let line = 1; line <= before; line += 1) yield { line };
          begun.resolve();
          await once(signal, 'abort');
          signal.throwIfAborted();
        } finally {
          over.resolve(signal.reason);
        }
      });
      const asked = it.ask();
      if (before > 0) {
        const [answer] = await once(asked, 'response');
        answer.on('error', () => undefined).resume();
      }
      await begun.promise;
      asked.destroy();
      expect(await over.promise).toMatchObject({ name: 'AbortError' });
      await it[Symbol.asyncDispose](); // every hook has run
      expect(it.log).toEqual([]);
    },
  );
});

test('an answer that nobody waits for any more ends, and that is no error', async () => {
  const log: string[] = [];
  await using stack = new AsyncDisposableStack();
  const server = adminServer(
    { transport: 'unix' },
    { event: (level, name) => void (level === 'error' && log.push(name)) },
  );
  stack.defer(() => server.close());
  const begun = Promise.withResolvers<void>();
  server.get('/', async (_, reply) => {
    const gone = new AbortController();
    const left = once(reply.raw, 'close');
    begun.resolve();
    await left;
    gone.abort();
    gone.signal.throwIfAborted();
  });
  const answered = new Promise((settle) => server.addHook('onSend', async () => settle(undefined)));
  await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const asked = request({ host: '127.0.0.1', port, agent: false }).on('error', () => undefined);
  asked.end();
  await begun.promise;
  asked.destroy();
  await answered;
  expect(log).toEqual([]);
});
