import type { Facts } from './errors.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** An event has a name in dots and facts beside it; sentences are never glued together from values. */
export interface Log {
  event(level: LogLevel, name: string, facts?: Facts): void;
}

/** For tests and tools that have nobody to tell. */
export const silentLog: Log = { event: () => undefined };
