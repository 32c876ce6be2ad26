import { setTimeout as sleep } from 'node:timers/promises';
import type { DeletionListView } from '../app/admin-views.ts';
import type { Collie } from './collie-command.ts';

const ASK_EVERY_MS = 1000;

/**
 * Shows how far a deletion is until it is done.
 * @param text      export name of what is being deleted
 * @param deletion  settles when it is done
 * @param wait      settles when it is time to ask how far it is
 */
export async function watchDeletion<T>(
  { call, progress }: Pick<Collie, 'call' | 'progress'>,
  text: string,
  deletion: Promise<T>,
  // The process ends with the answer, not a second later.
  wait: () => Promise<unknown> = () => sleep(ASK_EVERY_MS, undefined, { ref: false }),
): Promise<T> {
  using bar = progress(`removing the objects of ${text}`, (count) => `${Math.round(count)}`);
  const over = deletion.then(() => true);
  let total = 0;
  while (!(await Promise.race([over, wait().then(() => false)]))) {
    // What cannot be told is no reason to fail: the answer of the deletion itself counts.
    const listed = await call<DeletionListView>('GET', '/v1/deletions').catch(() => undefined);
    const found = listed?.deleting.find((one) => one.export === text)?.progress;
    if (found === undefined) continue;
    bar.update(found.done, found.total);
    total = found.total;
  }
  if (total === 0) return deletion;
  bar.update(total, total);
  bar.done();
  return deletion;
}
