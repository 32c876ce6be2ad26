import type { FastifyInstance } from 'fastify';
import { answerLines } from './admin-lines.ts';
import { type ByName, type BySnapshot, SNAPSHOT_PATH, VDI_PATH } from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';

/** Checks: answers that come line by line, for as long as they take. */
export function addCheckRoutes(server: FastifyInstance, { directory, checks }: AdminSubject): void {
  server.post<{ Params: ByName }>(`${VDI_PATH}/check`, async ({ params }, reply) => {
    const record = await directory.info(params.name);
    return answerLines(reply, (call) => checks.run(record, call));
  });
  server.post<{ Params: BySnapshot }>(`${SNAPSHOT_PATH}/check`, async ({ params }, reply) => {
    const record = await directory.snapshotInfo(params);
    return answerLines(reply, (call) => checks.run(record, call));
  });
}
