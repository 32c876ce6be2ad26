import type { Completion, WriteCall } from '../contracts/call.ts';

/** The two ways to write; made once, because requests must not cost objects. */
export const PLAIN: WriteCall = { durable: false };
/** A piece of a write that is flushed when all of it is there. */
export const FLUSHED_SOON: WriteCall = { durable: false, flushFollows: true };
export const DURABLE: WriteCall = { durable: true };

/**
 * Starts an operation of the device and calls `done` or `failed` when it is settled: at once if it
 * need not wait. Throwing at once and rejecting later are one thing here.
 * @returns true if it waits: what it borrowed stays lent until `done` or `failed` is called
 */
export function attempt(
  start: () => Completion,
  done: () => void,
  failed: (error: unknown) => void,
): boolean {
  let waiting: Completion;
  try {
    waiting = start();
  } catch (error) {
    failed(error);
    return false;
  }
  if (waiting === undefined) {
    done();
    return false;
  }
  waiting.then(done, failed);
  return true;
}
