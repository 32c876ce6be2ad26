import type { FastifyInstance } from 'fastify';
import {
  type ByName,
  type BySnapshot,
  body,
  DRY_RUN_QUERY,
  type DryRunQuery,
  infoOf,
  NAME,
  SNAPSHOT_PATH,
  shown,
  VDI_PATH,
} from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';
import type { VdiChangedView, VdiInfoView } from './admin-views.ts';

const NEW_SNAPSHOT = body({ tag: NAME }, ['tag']);
const NEW_CLONE = body({ name: NAME }, ['name']);
const ROLLBACK = body({ dryRun: { type: 'boolean' } }, []);

/** Snapshots of VDIs, by tag or ID, and what is made from them. */
export function addSnapshotRoutes(server: FastifyInstance, subject: AdminSubject): void {
  const { directory, volumes, deletions } = subject;

  server.post<{ Params: ByName; Body: { readonly tag: string } }>(
    `${VDI_PATH}/snapshots`,
    { schema: { body: NEW_SNAPSHOT } },
    async ({ params: { name }, body: { tag } }, reply) => {
      const record = await volumes.snapshot(name, tag);
      return reply.code(201).send(shown(record, subject));
    },
  );

  server.get<{ Params: BySnapshot }>(
    SNAPSHOT_PATH,
    async ({ params }): Promise<VdiInfoView> =>
      infoOf(await directory.snapshotInfo(params), subject),
  );

  server.post<{ Params: BySnapshot; Body: { readonly name: string } }>(
    `${SNAPSHOT_PATH}/clones`,
    { schema: { body: NEW_CLONE } },
    async ({ params: { name, snapshot }, body }, reply) => {
      const record = await volumes.clone({ name, snapshot }, body.name);
      return reply.code(201).send(shown(record, subject));
    },
  );

  server.post<{ Params: BySnapshot; Body: { readonly dryRun?: boolean } }>(
    `${SNAPSHOT_PATH}/rollback`,
    { schema: { body: ROLLBACK } },
    async ({ params: { name, snapshot }, body: { dryRun = false } }): Promise<VdiChangedView> => {
      const record = await volumes.rollback(name, snapshot, { dryRun });
      return { ...shown(record, subject), dryRun };
    },
  );

  server.delete<{ Params: BySnapshot; Querystring: DryRunQuery }>(
    SNAPSHOT_PATH,
    { schema: { querystring: DRY_RUN_QUERY } },
    async ({ params: { name, snapshot }, query }): Promise<VdiChangedView> => {
      const dryRun = query.dryRun === 'true';
      const record = await volumes.delete(name, { snapshot, dryRun });
      if (!dryRun) await deletions.finish(record);
      return { ...shown(record, subject), dryRun };
    },
  );
}
