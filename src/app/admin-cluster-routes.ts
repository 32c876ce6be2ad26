import type { FastifyInstance } from 'fastify';
import { answerLines } from './admin-lines.ts';
import { body, NAME } from './admin-shapes.ts';
import type { AdminSubject } from './admin-subject.ts';

const SNAPSHOTS = '/v1/cluster/snapshots';
const SNAPSHOT = `${SNAPSHOTS}/:tag`;

interface ByTag {
  readonly tag: string;
}
const FLAG = { type: 'boolean' } as const;
const LOAD = body({ vdi: NAME, as: NAME, replace: FLAG, dryRun: FLAG }, []);
interface Load {
  readonly vdi?: string;
  readonly as?: string;
  readonly replace?: boolean;
  readonly dryRun?: boolean;
}

/** Snapshots of the whole cluster; what takes long is answered line by line. */
export function addClusterRoutes(
  server: FastifyInstance,
  { clusterSnapshots }: AdminSubject,
): void {
  server.post<{ Params: ByTag; Body: Load }>(
    `${SNAPSHOT}/load`,
    { schema: { body: LOAD } },
    ({ params: { tag }, body: { dryRun = false, ...options } }, reply) =>
      answerLines(reply, (call) => clusterSnapshots.load(tag, { ...options, dryRun }, call)),
  );
}
