import type { FastifyInstance } from 'fastify';
import type { AdminSubject } from './admin-subject.ts';

/** What monitoring asks: the same guard stands before it as before everything else. */
export function addMetricsRoutes(server: FastifyInstance, subject: AdminSubject): void {
  server.get('/metrics', async (_request, reply) => {
    await subject.forgetGone();
    const [info, health, stats] = await Promise.all([
      subject.info(),
      subject.health(),
      subject.stats(),
    ]);
    // Its library takes a fiftieth of a second to load, at each start: most are never asked for it.
    const { metricsText } = await import('./metrics.ts');
    const { type, text } = await metricsText({ info, health, stats }, () => subject.clock.yield());
    return reply.type(type).send(text);
  });

  /** 200 while everything is served, with or without warnings; else 503. */
  server.get('/healthz', async (_request, reply) => {
    const health = await subject.health();
    return reply.code(health.status === 'error' ? 503 : 200).send(health);
  });
}
