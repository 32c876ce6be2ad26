import type { Log } from '../base/log.ts';

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
/** A terminal and npm both pass a Ctrl-C on: what comes this soon is the same one. */
const SAME_MS = 2000;

/**
 * Settles at the first signal that asks the process to stop. A second one, 2 s later or more, calls
 * `stopNow`.
 */
export function stopSignal(log: Log, nowMs: () => number, stopNow: () => void): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let firstMs: number | undefined;
  const stop = (signal: string) => {
    if (firstMs === undefined) {
      firstMs = nowMs();
      log.event('info', 'sheep.stopping', { signal });
      resolve(signal);
    } else if (nowMs() - firstMs >= SAME_MS) {
      log.event('warn', 'sheep.stopped-at-once', { signal });
      stopNow();
    }
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  return promise;
}
