import type { FastifyInstance, FastifyReply } from 'fastify';
import type { VolumeRecord } from '../vdi/record.ts';
import { errorAnswer } from './admin-server.ts';
import { type ByName, type BySnapshot, SNAPSHOT_PATH, VDI_PATH } from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';
import type { CheckLine } from './admin-views.ts';

/** Checks: answers that come line by line, for as long as they take. */
export function addCheckRoutes(server: FastifyInstance, subject: AdminSubject): void {
  const { directory, checks } = subject;
  const answer = (reply: FastifyReply, record: VolumeRecord) => {
    const gone = new AbortController();
    return answerLines(reply, checks.run(record, { signal: gone.signal }), () => gone.abort());
  };
  server.post<{ Params: ByName }>(`${VDI_PATH}/check`, async ({ params }, reply) =>
    answer(reply, await directory.info(params.name)),
  );
  server.post<{ Params: BySnapshot }>(`${SNAPSHOT_PATH}/check`, async ({ params }, reply) =>
    answer(reply, await directory.snapshotInfo(params)),
  );
}

/** What fails before the first line is an answer of its own, with its status; later it is a line. */
async function answerLines(
  reply: FastifyReply,
  lines: AsyncGenerator<CheckLine>,
  abort: () => void,
) {
  let first: IteratorResult<CheckLine> | undefined = await lines.next();
  const stream = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const { done, value } = first ?? (await lines.next());
          first = undefined;
          if (done === true) controller.close();
          else controller.enqueue(encoded(value));
        } catch (error) {
          controller.enqueue(encoded({ is: 'error', error: errorAnswer(error).body }));
          controller.close();
        }
      },
      // Whoever asked is gone.
      cancel: async () => {
        abort();
        await lines.return(undefined).catch(() => undefined);
      },
    },
    { highWaterMark: 0 },
  );
  return reply.type('application/x-ndjson').send(stream);
}

function encoded(line: CheckLine): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}
