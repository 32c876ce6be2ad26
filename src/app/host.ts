import type { Server } from 'node:http';
import type { Durations } from '../base/histogram.ts';
import type { Log } from '../base/log.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';
import type { Disk } from '../contracts/disk.ts';
import type { Address, Listener, Net } from '../contracts/net.ts';
import type { Clock, Random } from '../contracts/seams.ts';
import type { HttpsOptions, ServerTls, TlsFiles } from '../contracts/tls.ts';

/** How the process does: what a person looks at when it is slow. */
export interface ProcessStats {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly cpuMs: number;
  /** How late timers came since the start … */
  readonly loopDelays: Durations;
  /** … and in the last half minute, or up to a minute. */
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
  /** The server's side of TLS. @throws SheepError `ERR_BAD_INPUT` if its files cannot be used */
  readonly openTls: (files: TlsFiles) => Promise<ServerTls>;
  /** Threads for what takes long and what nobody's I/O may wait for: all others go first. */
  readonly openPool: () => Promise<CpuPool>;
  /** Who this is, to whoever finds a store in use. */
  readonly holder: { readonly host: string; readonly pid: number };
  readonly processStats: () => ProcessStats;
  /** How long it took to make a file stable, each time since the start. */
  readonly diskSyncs: () => Durations;
  /** How many files the process may have open. */
  readonly filesMax: number;
  /** How much memory there is for it and its page cache. */
  readonly memoryBytes: number;
  /** The process must not go on: what it believes of its own state is wrong. */
  readonly fatal: (error: Error) => void;
  /** Version of this program. */
  readonly version: string;
}
