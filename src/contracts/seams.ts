import type { Call } from './call.ts';

/** Suite: test/contracts/clock.ts. Monotonic time never runs back; wall time may jump. */
export interface Clock {
  wallMs(): number;
  /** Milliseconds with fractions since some start. */
  monotonicMs(): number;
  /** Settles after `delayMs`. Aborting rejects with the signal's reason and frees the timer. */
  sleep(delayMs: number, call?: Call): Promise<void>;
  /** Settles in a later turn of the event loop, so that others are served in between. */
  yield(): Promise<void>;
}

export interface Random {
  /** A whole number from 0 to `limit - 1`; `limit` from 1 to 2^48 - 1. */
  below(limit: number): number;
  bytes(length: number): Uint8Array<ArrayBuffer>;
}
