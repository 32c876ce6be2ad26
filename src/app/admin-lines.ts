import type { FastifyReply } from 'fastify';
import type { Call } from '../contracts/call.ts';
import { errorAnswer } from './admin-server.ts';

/**
 * Answers with lines of JSON, each when it is known; how collie reads them: cli/admin-client.ts. What
 * fails before the first one is an answer of its own, with its status; later it is the last line.
 * @param lines  is aborted when whoever asked is gone
 */
export async function answerLines<Line extends object>(
  reply: FastifyReply,
  lines: (call: Required<Call>) => AsyncGenerator<Line>,
) {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const all = lines(gone);
  let first: IteratorResult<Line> | undefined;
  try {
    first = await all.next();
  } catch (error) {
    if (!gone.signal.aborted) throw error;
    reply.hijack(); // nobody is there to be answered, and that is no error
    return reply;
  }
  const stream = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = first ?? (await all.next());
          first = undefined;
          if (done === true) controller.close();
          else controller.enqueue(encoded(value));
        } catch (error) {
          controller.enqueue(encoded({ is: 'error', error: errorAnswer(error).body }));
          controller.close();
        }
      },
      cancel: async () => {
        gone.abort();
        await all.return(undefined).catch(() => undefined);
      },
    },
    { highWaterMark: 0 },
  );
  return reply.type('application/x-ndjson').send(stream);
}

function encoded(line: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}
