import type { AssertionFailure } from '../base/assert.ts';
import type { Log } from '../base/log.ts';
import type { Exports } from '../contracts/exports.ts';
import type { Clock } from '../contracts/seams.ts';
import type { Tls } from '../contracts/tls.ts';
import type { Allowance } from './allowance.ts';
import type { NbdLimits } from './limits.ts';
import type { Meters } from './meter.ts';
import type { SlabPool } from './slabs.ts';
import type { Turns } from './turns.ts';

/** How a server offers TLS. */
export interface ServerSide {
  readonly side: Tls;
  /** Nothing is served outside of it. */
  readonly required: boolean;
}

/** What all connections of a server share. */
export interface Shared<One> {
  readonly exports: Exports;
  readonly tls: ServerSide | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** For events of clients that are not attached yet: a line for some of them. */
  readonly strangers: Log;
  /** For slow requests: a line for some of them. */
  readonly slow: Log;
  readonly meters: Meters;
  readonly limits: NbdLimits;
  readonly slabs: SlabPool;
  /** Of those that begin with TLS. */
  readonly securing: Turns<One>;
  /** For large options, and for their replies. */
  readonly options: Allowance;
  readonly replyMemory: Allowance;
  readonly fatal: (error: AssertionFailure) => void;
  /** `connection` left the handshake; `over`: it is gone and its device is closed. */
  begun(connection: One): void;
  over(connection: One): void;
}
