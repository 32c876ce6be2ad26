import { SheepError } from '../base/errors.ts';

/** The same failure, with what could not be done with which of many disks. A stop stays a stop. */
export function namedFailure(error: unknown, disk: string, what: string): unknown {
  if (!(error instanceof SheepError) || error.code === 'ERR_SHUTDOWN') return error;
  const message = `'${disk}' cannot be ${what}: ${error.message}`;
  return new SheepError(error.code, message, { ...error.facts, disk }, error);
}
