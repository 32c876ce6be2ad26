import type { FastifyInstance } from 'fastify';
import { OBJECT_BYTES_DEFAULT, parseObjectSize, parseVdiSize } from '../vdi/names.ts';
import { isLeaving } from '../vdi/record.ts';
import {
  type ByName,
  body,
  DRY_RUN_QUERY,
  type DryRunQuery,
  deletionsOf,
  infoOf,
  NAME,
  SIZE,
  shown,
  VDI_PATH,
} from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';
import type {
  DeletionListView,
  VdiChangedView,
  VdiInfoView,
  VdiListView,
  VdiSetView,
} from './admin-views.ts';

/** Access rules: vdi/access-rules.ts says which. */
const ALLOW = { type: 'array', items: { type: 'string', maxLength: 4096 } } as const;
const NEW_VDI = body({ name: NAME, size: SIZE, objectSize: SIZE, allow: ALLOW }, ['name', 'size']);
interface NewVdi {
  readonly name: string;
  readonly size: number | string;
  readonly objectSize?: number | string;
  readonly allow?: readonly string[];
}
const SET = body({ allow: ALLOW, dryRun: { type: 'boolean' } }, ['allow']);
interface SetVdi {
  readonly allow: readonly string[];
  readonly dryRun?: boolean;
}
const RESIZE = body({ size: SIZE, dryRun: { type: 'boolean' } }, ['size']);
interface Resize {
  readonly size: number | string;
  readonly dryRun?: boolean;
}

/** Working VDIs. */
export function addVdiRoutes(server: FastifyInstance, subject: AdminSubject): void {
  const { access, directory, volumes, deletions } = subject;

  server.get('/v1/vdis', async (): Promise<VdiListView> => {
    const [all, deleting] = await Promise.all([directory.all(), deletionsOf(subject)]);
    const underWay = new Set(deleting.map(({ vid }) => vid));
    const rules = new Map((await directory.served()).map(({ vid, allow }) => [vid, allow]));
    const byName = all.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    const views = byName.map((record) => {
      return { ...shown(record, subject), allow: rules.get(record.vid) ?? record.allow };
    });
    return {
      vdis: views.filter(({ state }) => state === 'ready'),
      snapshots: views.filter(({ state }) => state === 'snapshot'),
      deleting,
      kept: views.filter(
        (view) => view.state === 'held' || (isLeaving(view) && !underWay.has(view.vid)),
      ),
    };
  });

  server.get(
    '/v1/deletions',
    async (): Promise<DeletionListView> => ({ deleting: await deletionsOf(subject) }),
  );

  server.post<{ Body: NewVdi }>(
    '/v1/vdis',
    { schema: { body: NEW_VDI } },
    async (request, reply) => {
      const { name, size, objectSize = OBJECT_BYTES_DEFAULT, allow } = request.body;
      const record = await volumes.create({
        name,
        sizeBytes: parseVdiSize(String(size)),
        objectBytes: parseObjectSize(String(objectSize)),
        ...(allow !== undefined && { allow }),
      });
      return reply.code(201).send(shown(record, subject));
    },
  );

  server.get<{ Params: ByName }>(VDI_PATH, async ({ params: { name } }): Promise<VdiInfoView> => {
    return infoOf(await directory.info(name), subject);
  });

  server.patch<{ Params: ByName; Body: SetVdi }>(
    VDI_PATH,
    { schema: { body: SET } },
    async ({ params: { name }, body: { allow, dryRun = false } }): Promise<VdiSetView> => {
      const { record, shutOut } = await access.change(name, allow, { dryRun });
      const clients = shutOut.map(({ client, exportName }) => {
        return { name: client.name, transport: client.transport, export: exportName };
      });
      return { ...shown(record, subject), dryRun, shutOut: clients };
    },
  );

  server.post<{ Params: ByName; Body: Resize }>(
    `${VDI_PATH}/resize`,
    { schema: { body: RESIZE } },
    async ({ params: { name }, body: { size, dryRun = false } }): Promise<VdiChangedView> => {
      const record = await volumes.resize(name, parseVdiSize(String(size)), { dryRun });
      return { ...shown(record, subject), dryRun };
    },
  );

  server.delete<{ Params: ByName; Querystring: DryRunQuery }>(
    VDI_PATH,
    { schema: { querystring: DRY_RUN_QUERY } },
    async ({ params: { name }, query }): Promise<VdiChangedView> => {
      const dryRun = query.dryRun === 'true';
      const record = await volumes.delete(name, { dryRun });
      if (!dryRun) await deletions.finish(record);
      return { ...shown(record, subject), dryRun };
    },
  );
}
