import { closeSync, openSync } from 'node:fs';
import type { Log } from '../base/log.ts';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
/** A terminal and npm both pass a Ctrl-C on: what comes this soon is the same one. */
const SAME_MS = 2000;

export interface SignalActions {
  readonly stopNow: () => void;
  /** Reads what may have changed; called for each SIGHUP but that of a terminal that was closed. */
  readonly reload: () => void;
}

/**
 * Settles at the first signal that asks the process to stop. A second one, 2 s later or more, calls
 * `stopNow`.
 */
export function stopSignal(
  log: Log,
  nowMs: () => number,
  { stopNow, reload }: SignalActions,
): Promise<string> {
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
  const hadTerminal = hasTerminal();
  process.on('SIGHUP', (signal) => {
    if (hadTerminal && !hasTerminal()) stop(signal);
    else reload();
  });
  return promise;
}

/** Whoever started this can still type at it. A terminal that was closed cannot be opened again. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
