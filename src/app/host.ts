import type { Server } from 'node:http';
import type { Log } from '../base/log.ts';
import type { Disk } from '../contracts/disk.ts';
import type { Address, Listener, Net } from '../contracts/net.ts';
import type { Clock, Random } from '../contracts/seams.ts';
import type { HttpsOptions } from '../contracts/tls.ts';

/** How the process does: what a person looks at when it is slow. */
export interface ProcessStats {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly cpuMs: number;
  /** How late timers came since the last time somebody asked. */
  readonly eventLoopDelayMs: { readonly p50: number; readonly p99: number; readonly max: number };
}

/** The machine a sheep runs on; `cli` builds the real one, tests a simulated one. */
export interface Host {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  readonly log: Log;
  /** Lets an HTTP server listen, with `https` inside TLS; errors as of `Net.listen`. */
  readonly listenHttp: (
    server: Server,
    address: Address,
    https?: HttpsOptions,
  ) => Promise<Listener>;
  readonly processStats: () => ProcessStats;
  /** How many files the process may have open. */
  readonly filesMax: number;
  /** How much memory there is for it and its page cache. */
  readonly memoryBytes: number;
  /** The process must not go on: what it believes of its own state is wrong. */
  readonly fatal: (error: Error) => void;
  /** Version of this program. */
  readonly version: string;
}
