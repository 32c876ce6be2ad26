import type { FastifyInstance } from 'fastify';
import { answerLines } from './admin-lines.ts';
import { body, DRY_RUN_QUERY, type DryRunQuery, NAME } from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';

const SNAPSHOTS = '/v1/cluster/snapshots';
const SNAPSHOT = `${SNAPSHOTS}/:tag`;

interface ByTag {
  readonly tag: string;
}
const SAVE = body({ tag: NAME }, ['tag']);
const FLAG = { type: 'boolean' } as const;
const LOAD = body({ vdi: NAME, as: NAME, replace: FLAG, dryRun: FLAG }, []);
interface Load {
  readonly vdi?: string;
  readonly as?: string;
  readonly replace?: boolean;
  readonly dryRun?: boolean;
}
const COLLECT = body({ dryRun: FLAG }, []);
const PERCENT = { type: 'number', exclusiveMinimum: 0, maximum: 100 } as const;
const CHECK = body({ samplePercent: PERCENT }, []);

/** Snapshots of the whole cluster; what takes long is answered line by line. */
export function addClusterRoutes(
  server: FastifyInstance,
  { clusterSnapshots }: AdminSubject,
): void {
  server.get(SNAPSHOTS, () => clusterSnapshots.list());

  server.get<{ Params: ByTag }>(SNAPSHOT, ({ params: { tag } }, reply) =>
    answerLines(reply, (call) => clusterSnapshots.show(tag, call)),
  );

  server.post<{ Body: ByTag }>(SNAPSHOTS, { schema: { body: SAVE } }, ({ body: { tag } }, reply) =>
    answerLines(reply, (call) => clusterSnapshots.save(tag, call)),
  );

  server.post<{ Params: ByTag; Body: Load }>(
    `${SNAPSHOT}/load`,
    { schema: { body: LOAD } },
    ({ params: { tag }, body: { dryRun = false, ...options } }, reply) =>
      answerLines(reply, (call) => clusterSnapshots.load(tag, { ...options, dryRun }, call)),
  );

  server.delete<{ Params: ByTag; Querystring: DryRunQuery }>(
    SNAPSHOT,
    { schema: { querystring: DRY_RUN_QUERY } },
    ({ params: { tag }, query }, reply) => {
      const dryRun = query.dryRun === 'true';
      return answerLines(reply, (call) => clusterSnapshots.delete(tag, { dryRun }, call));
    },
  );

  server.post<{ Body: { readonly dryRun?: boolean } }>(
    '/v1/cluster/gc',
    { schema: { body: COLLECT } },
    ({ body: { dryRun = false } }, reply) =>
      answerLines(reply, (call) => clusterSnapshots.collect({ dryRun }, call)),
  );

  server.post<{ Body: { readonly samplePercent?: number } }>(
    '/v1/cluster/check',
    { schema: { body: CHECK } },
    ({ body: { samplePercent = 100 } }, reply) =>
      answerLines(reply, (call) => clusterSnapshots.check({ samplePercent }, call)),
  );
}
