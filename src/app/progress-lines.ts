import { anySignal } from '../base/signals.ts';
import type { Call } from '../contracts/call.ts';
import type { Clock } from '../contracts/seams.ts';

/** How often something that takes long says how far it is. */
const TOLD_MS = 500;

/** What it says of itself: how far it is, and in the end its result. */
export type ProgressLine<Progress, Result> =
  | ({ readonly is: 'progress' } & Progress)
  | { readonly is: 'end'; readonly result: Result };

/**
 * Work that tells by calls how far it is, as lines: the first call at once, then the latest one twice
 * a second, in the end its result. Leaving early aborts the work, and waits until it has stopped.
 * @throws what the work throws
 */
export async function* progressLines<Progress extends object, Result>(
  clock: Clock,
  { signal }: Call,
  work: (call: Required<Call>, progress: (done: Progress) => void) => Promise<Result>,
): AsyncGenerator<ProgressLine<Progress, Result>> {
  const left = new AbortController();
  let latest: Progress | undefined;
  let news = Promise.withResolvers<void>();
  const running = work({ signal: anySignal(signal, left.signal) }, (done) => {
    latest = done;
    news.resolve();
  });
  const over = new AbortController();
  const ended = running.then(
    () => over.abort(),
    () => over.abort(),
  );
  over.signal.addEventListener('abort', () => news.resolve());
  try {
    for (;;) {
      await news.promise;
      if (latest !== undefined) yield { is: 'progress', ...latest };
      latest = undefined;
      if (over.signal.aborted) break;
      news = Promise.withResolvers();
      await clock.sleep(TOLD_MS, { signal: over.signal }).catch(() => undefined);
    }
    yield { is: 'end', result: await running };
  } finally {
    left.abort();
    await ended;
  }
}
