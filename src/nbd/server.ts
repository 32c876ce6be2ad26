import type { AssertionFailure } from '../base/assert.ts';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Exports } from '../contracts/exports.ts';
import type { Address, ByteStream, Listener, ListenOptions, Net } from '../contracts/net.ts';
import type { Clock } from '../contracts/seams.ts';
import { Admission, hostOf } from './admission.ts';
import { Allowance } from './allowance.ts';
import { Connection } from './connection.ts';
import type { ConnectionInfo } from './connection-info.ts';
import { checkLimits, NBD_LIMITS, type NbdLimits } from './limits.ts';
import { type ExportStats, Meters } from './meter.ts';
import { QuietLog } from './quiet-log.ts';
import type { ServerSide } from './shared.ts';
import { SlabPool } from './slabs.ts';
import { Turns } from './turns.ts';

export type { ConnectionInfo } from './connection-info.ts';

export interface NbdOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly log: Log;
  readonly exports: Exports;
  /** Without it STARTTLS is refused. */
  readonly tls?: ServerSide;
  /** All of them are served, or none. */
  readonly addresses: readonly Address[];
  /** Of unix sockets. */
  readonly unix?: Pick<ListenOptions, 'unixMode' | 'unixGroup'>;
  /** A broken belief was found while serving: the process must not go on. */
  readonly fatal: (error: AssertionFailure) => void;
  readonly limits?: Partial<NbdLimits>;
}

export interface NbdServer extends AsyncDisposable {
  /** Where it is served, with the real ports, in the order of `NbdOptions.addresses`. */
  readonly addresses: readonly Address[];
  /** The clients that are attached to an export. */
  connections(): ConnectionInfo[];
  /** What was counted since it was opened. */
  stats(): NbdStats;
  /** Forgets the counts of exports that nobody has attached and that are not `wanted`. */
  retain(wanted: (exportName: string) => boolean): void;
  /**
   * Stops: listens no more, finishes what is in flight, closes every connection and then its device.
   * What is not over after `deadlineMs` is closed, and not waited for. Later calls do the same.
   * Disposing drains with 30 s.
   */
  drain(deadlineMs: number): Promise<void>;
}

export interface NbdStats {
  readonly exports: readonly ExportStats[];
  /** Connections that have not chosen an export. */
  readonly handshakes: number;
  /** Connections that were accepted, … */
  readonly accepted: number;
  /** … that were closed at once because there was no place for them, … */
  readonly refused: number;
  /** … and that lost theirs, in the middle of the handshake, to a newer one. */
  readonly evicted: number;
  /** How often the system could not accept one. */
  readonly acceptFailures: number;
}

const DISPOSE_DRAIN_MS = 30_000;

/** Serves exports over NBD. @throws SheepError as Net.listen does; then nothing is left open */
export async function serveNbd(options: NbdOptions): Promise<NbdServer> {
  const server = new Server(options);
  await using opening = new AsyncDisposableStack();
  for (const address of options.addresses) opening.use(await server.listen(address));
  opening.move();
  for (const address of server.addresses) options.log.event('info', 'nbd.listening', { address });
  server.startSweeping();
  return server;
}

class Server implements NbdServer {
  readonly addresses: Address[] = [];
  readonly #options: NbdOptions;
  readonly #limits: NbdLimits;
  readonly #slabs: SlabPool;
  readonly #optionMemory: Allowance;
  readonly #replyMemory: Allowance;
  readonly #listeners: Listener[] = [];
  /** In the order in which they came. */
  readonly #connections = new Set<Connection>();
  readonly #admission: Admission<Connection>;
  readonly #securing: Turns<Connection>;
  /** For what strangers do, and what is done to them. */
  readonly #quietLog: Log;
  readonly #slowLog: Log;
  readonly #meters: Meters;
  readonly #counts = { accepted: 0, refused: 0, evicted: 0, acceptFailures: 0 };
  readonly #sweeping = new AbortController();
  #stopping = false;
  #allOver = Promise.withResolvers<void>();

  constructor(options: NbdOptions) {
    this.#options = options;
    this.#limits = checkLimits({ ...NBD_LIMITS, ...options.limits });
    this.#slabs = new SlabPool(this.#limits);
    this.#optionMemory = new Allowance(this.#limits.optionsSharedBytes);
    this.#replyMemory = new Allowance(this.#limits.optionsSharedBytes);
    this.#admission = new Admission(this.#limits);
    const { tlsHandshakesMax, tlsTurnMs } = this.#limits;
    this.#securing = new Turns(tlsHandshakesMax, tlsTurnMs, options.clock);
    this.#meters = new Meters(this.#limits.metersMax);
    const { strangerLines, strangerLinesMs, slowLines, slowLinesMs } = this.#limits;
    this.#quietLog = new QuietLog(options.log, options.clock, strangerLines, strangerLinesMs);
    this.#slowLog = new QuietLog(options.log, options.clock, slowLines, slowLinesMs);
  }

  async listen(address: Address): Promise<Listener> {
    const { net, unix } = this.#options;
    const listener = await net.listen(address, (stream) => this.#accept(stream), {
      ...unix,
      // Where one fails the next one does too. (Without a file to open, libuv itself closes them.)
      acceptFailed: (cause) => {
        this.#counts.acceptFailures += 1;
        this.#quietLog.event('warn', 'nbd.accept-failed', { address, cause: describeError(cause) });
      },
    });
    this.#listeners.push(listener);
    this.addresses.push(listener.address);
    return listener;
  }

  connections(): ConnectionInfo[] {
    return [...this.#connections].map((one) => one.info()).filter((info) => info !== undefined);
  }

  stats(): NbdStats {
    const handshakes = this.#admission.waiting.size;
    return { exports: this.#meters.stats(), handshakes, ...this.#counts };
  }

  retain(wanted: (exportName: string) => boolean): void {
    this.#meters.retain(wanted);
  }

  async drain(deadlineMs: number): Promise<void> {
    const { clock, log } = this.#options;
    this.#stopping = true;
    for (const listener of this.#listeners.splice(0)) await listener[Symbol.asyncDispose]();
    for (const connection of this.#connections) connection.stop();
    this.#endHandshakes();
    if (this.#connections.size > 0) {
      const deadline = new AbortController();
      const late = clock.sleep(deadlineMs, { signal: deadline.signal }).then(
        () => {
          const { size } = this.#connections;
          log.event('warn', 'nbd.drain-cut-short', { connections: size });
          for (const connection of this.#connections) connection.close();
        },
        () => undefined,
      );
      await Promise.race([this.#allOver.promise, late]);
      deadline.abort();
    }
    this.#sweeping.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(DISPOSE_DRAIN_MS);
  }

  startSweeping(): void {
    void this.#sweep();
  }

  async #sweep(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#sweeping;
    while (!signal.aborted) {
      const nowMs = clock.monotonicMs();
      for (const connection of this.#connections) connection.sweep(nowMs);
      this.#hurry();
      await clock.sleep(this.#limits.sweepMs, { signal }).catch(() => undefined);
    }
  }

  /** Others wait for their turn with TLS: those that do not go on with theirs have to leave. */
  #hurry(): void {
    for (const connection of this.#securing.late()) {
      this.#counts.evicted += 1;
      const { tlsHandshakesMax: handshakesMax } = this.#limits;
      const facts = { client: connection.clientName, handshakesMax, tls: true };
      this.#quietLog.event('warn', 'nbd.handshakes-full', facts);
      connection.close();
    }
  }

  #accept(stream: ByteStream): void {
    const host = hostOf(stream);
    if (this.#stopping || !this.#makeRoom(stream, host)) {
      stream.destroy();
      return;
    }
    this.#counts.accepted += 1;
    const { exports, tls, clock, log, fatal } = this.#options;
    const connection = new Connection(stream, {
      exports,
      tls,
      clock,
      log,
      fatal,
      strangers: this.#quietLog,
      slow: this.#slowLog,
      meters: this.#meters,
      limits: this.#limits,
      slabs: this.#slabs,
      securing: this.#securing,
      options: this.#optionMemory,
      replyMemory: this.#replyMemory,
      begun: (one) => this.#begun(one),
      over: (one) => this.#over(one),
    });
    this.#connections.add(connection);
    this.#admission.enter(connection, host);
    connection.start();
  }

  /** False if there is no place for one more of `host`. */
  #makeRoom(stream: ByteStream, host: string): boolean {
    const verdict = this.#admission.ask(host);
    const client = stream.peerName;
    if (!verdict.place) {
      this.#counts.refused += 1;
      const { connectionsMax } = this.#limits;
      const facts = { client, connectionsMax, full: verdict.full };
      this.#quietLog.event('warn', 'nbd.connections-full', facts);
    } else if (verdict.evicted !== undefined) {
      this.#counts.evicted += 1;
      verdict.evicted.close();
      const { handshakesMax } = this.#limits;
      this.#quietLog.event('warn', 'nbd.handshakes-full', { client, handshakesMax });
    }
    return verdict.place;
  }

  #begun(connection: Connection): void {
    this.#admission.attached(connection);
  }
  #over(connection: Connection): void {
    this.#admission.leave(connection);
    this.#connections.delete(connection);
    if (!this.#stopping) return;
    this.#endHandshakes();
    if (this.#connections.size === 0) this.#allOver.resolve();
  }

  /** Handshakes have until the last attached client is gone to be told; then they are closed. */
  #endHandshakes(): void {
    if (this.#admission.waiting.size < this.#connections.size) return;
    for (const connection of this.#admission.waiting) connection.close();
  }
}
