import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Children } from './children.ts';

/** What a benchmark works with; gone when it ends, however it ends. */
export interface Scope {
  readonly children: Children;
  /** A directory of its own on the file system that is measured. */
  readonly directory: string;
}

/** The user asked to stop. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** Runs `work`; then, and on Ctrl-C or SIGTERM, stops its processes and removes its directory. */
export async function withScope<T>(parent: string, work: (scope: Scope) => Promise<T>): Promise<T> {
  await using owned = new AsyncDisposableStack();
  const directory = await mkdtemp(join(parent, 'sheepdog-bench-'));
  owned.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
  const children = owned.use(new Children());
  const interrupted = Promise.withResolvers<never>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const listener = () => interrupted.reject(new Interrupted(signal));
    process.on(signal, listener);
    owned.defer(() => void process.off(signal, listener));
  }
  return await Promise.race([work({ children, directory }), interrupted.promise]);
}
