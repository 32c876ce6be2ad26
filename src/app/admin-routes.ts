import type { FastifyInstance } from 'fastify';
import { addCheckRoutes } from './admin-check-routes.ts';
import { addClusterRoutes } from './admin-cluster-routes.ts';
import { addEventRoutes } from './admin-event-routes.ts';
import { addMetricsRoutes } from './admin-metrics-routes.ts';
import { addSnapshotRoutes } from './admin-snapshot-routes.ts';
import type { AdminSubject } from './admin-subject.ts';
import { addVdiRoutes } from './admin-vdi-routes.ts';

/** The admin API; everything is JSON. `collie` is its client. */
export async function addRoutes(server: FastifyInstance, subject: AdminSubject): Promise<void> {
  await addEventRoutes(server, subject);
  server.get('/v1/info', () => subject.info());
  server.get('/v1/health', () => subject.health());
  server.get('/v1/stats', () => subject.stats());
  addMetricsRoutes(server, subject);
  addVdiRoutes(server, subject);
  addSnapshotRoutes(server, subject);
  addCheckRoutes(server, subject);
  addClusterRoutes(server, subject);
  server.post('/v1/reload', () => subject.reload());
  server.post('/v1/shutdown', (_request, reply) => {
    subject.requestStop();
    return reply.code(202).send({ stopping: true });
  });
}
