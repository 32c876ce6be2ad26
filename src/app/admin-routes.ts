import type { FastifyInstance } from 'fastify';
import { OBJECT_BYTES_DEFAULT, parseObjectSize, parseVdiSize } from '../vdi/names.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import type { AdminSubject } from './admin-subject.ts';
import type { VdiDeletedView, VdiInfoView, VdiListView, VdiView } from './admin-views.ts';

/** vdi/names.ts says which, and why. */
const NAME = { type: 'string', maxLength: 4096 } as const;
/** Bytes, or a text with a suffix: vdi/names.ts says which. */
const SIZE = {
  anyOf: [
    { type: 'integer', minimum: 0 },
    { type: 'string', maxLength: 40 },
  ],
} as const;
const NEW_VDI = {
  type: 'object',
  required: ['name', 'size'],
  additionalProperties: false,
  properties: { name: NAME, size: SIZE, objectSize: SIZE },
} as const;
const DELETE_QUERY = {
  type: 'object',
  additionalProperties: false,
  properties: { dryRun: { enum: ['true', 'false'] } },
} as const;

interface NewVdiBody {
  readonly name: string;
  readonly size: number | string;
  readonly objectSize?: number | string;
}
interface ByName {
  readonly name: string;
}

/** The admin API; everything is JSON. `collie` is its client. */
export function addRoutes(server: FastifyInstance, subject: AdminSubject): void {
  server.get('/v1/info', () => subject.info());
  server.get('/v1/health', () => subject.health());
  server.get('/v1/stats', () => subject.stats());

  server.get('/v1/vdis', async (): Promise<VdiListView> => {
    const [vdis, deletions] = await Promise.all([
      subject.directory.list(),
      subject.deletions.pending(),
    ]);
    return {
      vdis: vdis.map((record) => shown(record, subject)),
      deleting: deletions.map((record) => shown(record, subject)),
    };
  });

  server.post<{ Body: NewVdiBody }>(
    '/v1/vdis',
    { schema: { body: NEW_VDI } },
    async (request, reply) => {
      const { name, size, objectSize = OBJECT_BYTES_DEFAULT } = request.body;
      const record = await subject.volumes.create({
        name,
        sizeBytes: parseVdiSize(String(size)),
        objectBytes: parseObjectSize(String(objectSize)),
      });
      return reply.code(201).send(shown(record, subject));
    },
  );

  server.get<{ Params: ByName }>(
    '/v1/vdis/:name',
    async ({ params: { name } }): Promise<VdiInfoView> => {
      const record = await subject.directory.info(name);
      return { ...shown(record, subject), objects: await subject.volumes.countObjects(name) };
    },
  );

  server.delete<{ Params: ByName; Querystring: { dryRun?: 'true' | 'false' } }>(
    '/v1/vdis/:name',
    { schema: { querystring: DELETE_QUERY } },
    async ({ params: { name }, query }): Promise<VdiDeletedView> => {
      const dryRun = query.dryRun === 'true';
      const record = await subject.volumes.delete(name, dryRun);
      if (!dryRun) await subject.deletions.finish(record);
      return { ...shown(record, subject), dryRun };
    },
  );

  server.post('/v1/shutdown', (_request, reply) => {
    subject.requestStop();
    return reply.code(202).send({ stopping: true });
  });
}

function shown(record: VolumeRecord, { volumes }: AdminSubject): VdiView {
  const { name, state } = record;
  const clients = state === 'ready' ? volumes.clients(name) : [];
  return {
    ...record,
    clients: clients.map((client) => ({ name: client.name, transport: client.transport })),
  };
}
