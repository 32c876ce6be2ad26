import { AssertionFailure, assert } from '../base/assert.ts';
import { describeError, type Facts } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import type { Client } from '../contracts/exports.ts';
import type { ByteStream, Loan, StreamEvents } from '../contracts/net.ts';
import { type ConnectionInfo, proofText } from './connection-info.ts';
import { Inbound } from './inbound.ts';
import type { ExportMeter } from './meter.ts';
import { Negotiation } from './negotiation.ts';
import { Outbound } from './outbound.ts';
import type { Shared } from './shared.ts';
import { Stopwatch } from './stopwatch.ts';
import { Transmission } from './transmission.ts';
import type { Terms } from './validate.ts';

/** A chunk of which something could not be used yet. */
interface Rest {
  readonly chunk: Uint8Array;
  /** Up to here it is used. */
  at: number;
  readonly loan: Loan;
  /** Set once something of it was a request. */
  receivedMs?: number;
}

/**
 * The one I/O loop of a client: bytes go to the handshake, then to the transmission, and what these
 * cannot use yet is kept while the stream is paused. Phases only move forward:
 *
 *   handshake ──▶ transmission ──▶ ending ──▶ closed
 *
 * In `ending` everything has been sent, and we wait for the other side to close: closing first with
 * unread bytes in the kernel would make it throw away replies that are still under way.
 */
export class Connection implements StreamEvents {
  #stream: ByteStream;
  readonly #shared: Shared<Connection>;
  #client: Client;
  readonly #sinceMs: number;
  #phase: 'handshake' | 'transmission' | 'ending' | 'closed' = 'handshake';
  readonly #negotiation: Negotiation;
  /** Ends the handshake of TLS while that is under way. */
  #securing: AbortController | undefined;
  #inbound: Inbound | undefined;
  #transmission: Transmission | undefined;
  #outbound: Outbound | undefined;
  #export:
    | {
        readonly name: string;
        readonly terms: Terms;
        readonly attachedAtMs: number;
        readonly meter: ExportMeter;
      }
    | undefined;
  #stopping = false;
  /** What of a chunk could not be used yet; the stream is paused while it is there. */
  #rest: Rest | undefined;
  /** When the client's last byte had come. */
  #inputEndedMs: number | undefined;
  #released = false;
  /** What waits for the client to take it, and since when that has not changed. */
  #unread = { bytes: 0, sinceMs: 0 };
  #endingSinceMs = 0;
  readonly #logged = new Set<string>();

  constructor(stream: ByteStream, shared: Shared<Connection>) {
    const { exports, tls, limits, options, replyMemory, clock, fatal } = shared;
    const mode = tls === undefined ? 'none' : tls.required ? 'required' : 'offered';
    this.#stream = stream;
    this.#shared = shared;
    this.#client = {
      name: stream.peerName,
      transport: stream.transport,
      ...(stream.peerAddress !== undefined && { address: stream.peerAddress }),
      disconnect: () => this.close(),
    };
    this.#sinceMs = clock.monotonicMs();
    const parts = { exports, clock, tls: mode, limits, memory: options, replyMemory } as const;
    this.#negotiation = new Negotiation(stream, this.#client, parts, {
      idle: () => this.#proceed(),
      secure: () => void this.#secure(),
      begin: (device, terms, name) => this.#begin(device, terms, name),
      end: () => this.#end(),
      close: () => this.close(),
      fatal,
      once: (level, event, about, facts) => this.#once(level, event, about, facts),
    });
  }

  start(): void {
    this.#stream.start(this);
    this.#negotiation.start();
  }

  get clientName(): string {
    return this.#client.name;
  }

  /** Undefined unless it is attached to an export. */
  info(): ConnectionInfo | undefined {
    if (this.#export === undefined || this.#transmission === undefined) return undefined;
    return {
      client: this.#client.name,
      transport: this.#client.transport,
      ...(this.#client.proof !== undefined && { proof: this.#client.proof }),
      exportName: this.#export.name,
      readOnly: this.#export.terms.readOnly,
      attachedAtMs: this.#export.attachedAtMs,
      ...this.#transmission.counts,
    };
  }

  /**
   * The server is stopping. Options are answered with ERR_SHUTDOWN; requests in flight are finished
   * and the connection ends. A request that was not begun gets no reply: a client that reconnects
   * sends it again, while ESHUTDOWN would reach the guest as an I/O error.
   */
  stop(): void {
    this.#stopping = true;
    this.#negotiation.stop();
    this.#transmission?.end();
  }

  /** Closes at once. */
  close(): void {
    if (this.#securing === undefined) this.#stream.destroy();
    else this.#securing.abort();
    this.#shared.securing.leave(this);
  }

  /** Looks at the clock: late handshakes, ends that never come, clients that read nothing. */
  sweep(nowMs: number): void {
    const { limits } = this.#shared;
    if (this.#phase === 'handshake' && nowMs - this.#sinceMs >= limits.handshakeMs) {
      this.#once('info', 'nbd.handshake-timeout', '', {});
      this.close();
    }
    // Perhaps it ended its side alone, and waits for answers; perhaps it was killed.
    if (nowMs - (this.#inputEndedMs ?? nowMs) >= limits.goneMs) this.#transmission?.abandon();
    const bytes = this.#stream.unsentBytes;
    if (this.#phase === 'ending') {
      // While replies still leave, nobody can have seen the end.
      if (bytes > 0) this.#endingSinceMs = nowMs;
      else if (nowMs - this.#endingSinceMs >= limits.lingerMs) this.close();
    }
    if (bytes === 0 || bytes !== this.#unread.bytes) {
      this.#unread = { bytes, sinceMs: nowMs };
    } else if (nowMs - this.#unread.sinceMs >= limits.unreadMs) {
      this.#once('warn', 'nbd.replies-unread', '', { bytes });
      this.close();
    }
  }

  // StreamEvents

  received(chunk: Uint8Array, loan: Loan): void {
    const rest: Rest = { chunk, at: 0, loan };
    this.#feed(rest);
    if (rest.at === chunk.length) return;
    loan.hold();
    this.#rest = rest;
    this.#stream.pause();
  }

  ended(): void {
    this.#inputEndedMs = this.#shared.clock.monotonicMs();
    this.#proceed();
  }

  closed(cause?: Error): void {
    const was = this.#phase;
    this.#phase = 'closed';
    this.#outbound?.close();
    this.#negotiation.close();
    this.#rest?.loan.release();
    this.#rest = undefined;
    if (cause !== undefined && was === 'transmission') {
      this.#once('info', 'nbd.connection-lost', '', { cause: describeError(cause) });
    }
    this.#transmission?.abandon();
    this.#transmission?.inputEnded();
    this.#proceed();
  }

  // Input

  /** Uses a chunk as far as it can. */
  #feed(rest: Rest): void {
    const { chunk, loan } = rest;
    if (this.#phase === 'handshake') rest.at = this.#negotiation.feed(chunk, rest.at);
    const transmission = this.#transmission;
    const inbound = this.#inbound;
    if (this.#phase === 'transmission' && transmission && inbound) {
      rest.receivedMs = transmission.borrow(loan, rest.receivedMs);
      rest.at = inbound.push(chunk, rest.at, transmission);
      transmission.pushed(rest.at < chunk.length);
    } else if (this.#phase !== 'handshake') {
      // What comes after the end is read, so that the other side sees ours, and thrown away.
      rest.at = chunk.length;
    }
  }

  /** Something that we waited for has happened: goes on with what is left to do, if it can. */
  #proceed(): void {
    if (this.#phase === 'transmission' && this.#transmission?.over) this.#end();
    const rest = this.#rest;
    if (rest !== undefined) {
      this.#feed(rest);
      if (rest.at < rest.chunk.length || this.#rest !== rest) return;
      this.#rest = undefined;
      rest.loan.release();
      this.#stream.resume();
    }
    if (this.#phase === 'closed') this.#release();
    else if (this.#inputEndedMs !== undefined) this.#endOfInput();
  }

  /** The client sends no more: like DISC, once everything that it sent has been used. */
  #endOfInput(): void {
    if (this.#phase === 'transmission') this.#transmission?.inputEnded();
    else if (!this.#negotiation.busy) this.#end();
  }

  /** The stream belongs to TLS until that gives back one that is inside, or none. */
  async #secure(): Promise<void> {
    const { tls, fatal, securing: turns } = this.#shared;
    assert(tls !== undefined, 'TLS begins only where it was offered');
    if (this.#inputEndedMs !== undefined) {
      this.close(); // nobody is there to answer
      return;
    }
    const securing = new AbortController();
    const { signal } = securing;
    this.#securing = securing;
    const turn = turns.enter(this);
    if (turn !== undefined) {
      this.#stream.pause(); // what comes meanwhile is for TLS
      await turn;
    }
    try {
      const { stream, proof } = await tls.side.secure(this.#stream, { signal });
      this.#securing = undefined;
      if (signal.aborted) stream.destroy(); // closed while this was on its way here
      this.#stream = stream;
      this.#client = { ...this.#client, proof };
      this.#negotiation.secured(stream, this.#client);
      stream.start(this);
    } catch (error) {
      this.#securing = undefined;
      if (error instanceof AssertionFailure) fatal(error);
      if (!signal.aborted)
        this.#once('warn', 'nbd.tls-refused', '', { cause: describeError(error) });
      this.closed();
    } finally {
      turns.leave(this);
    }
  }

  #begin(device: BlockDevice, terms: Terms, name: string): void {
    if (this.#phase !== 'handshake') return;
    const { limits, slabs, fatal, clock, log, meters, slow } = this.#shared;
    const freed = () => this.#transmission?.slabFreed();
    this.#outbound = new Outbound(this.#stream, slabs, limits, freed);
    this.#inbound = new Inbound(terms.form === 'extended');
    const meter = meters.take(name);
    const who = { client: this.#client.name, export: name };
    const watched = { clock, meter, outbound: this.#outbound, log: slow, who };
    const stopwatch = new Stopwatch({ ...watched, slowMs: limits.slowRequestMs });
    this.#transmission = new Transmission(device, terms, this.#outbound, limits, stopwatch, {
      progress: () => this.#proceed(),
      broken: (why) => this.#broken(why),
      fatal,
      once: (level, event, about, facts) => this.#once(level, event, about, facts),
    });
    this.#phase = 'transmission';
    this.#export = { name, terms, attachedAtMs: clock.wallMs(), meter };
    const proof = proofText(this.#client.proof);
    log.event('info', 'nbd.attached', { ...who, proof });
    this.#shared.begun(this);
    if (this.#stopping) this.#transmission.end();
  }

  // Ends

  #broken(why: string): void {
    this.#once('warn', 'nbd.protocol-violation', why, { why });
    this.close();
  }

  /** Sends what is waiting and closes. */
  #end(): void {
    if (this.#phase === 'closed' || this.#phase === 'ending') return;
    this.#phase = 'ending';
    this.#endingSinceMs = this.#shared.clock.monotonicMs();
    this.#stream.end();
    this.#proceed();
  }

  /** The stream is gone: once nobody uses the device any more it goes back, and all is over. */
  #release(): void {
    const inUse = this.#negotiation.busy || this.#transmission?.over === false;
    if (inUse || this.#released) return;
    this.#released = true;
    void this.#closeDevice();
  }
  async #closeDevice(): Promise<void> {
    const facts = { client: this.#client.name, export: this.#export?.name };
    try {
      this.#outbound?.flush();
      await this.#negotiation.device?.[Symbol.asyncDispose]();
    } catch (error) {
      if (error instanceof AssertionFailure) this.#shared.fatal(error);
      const cause = describeError(error);
      this.#shared.log.event('error', 'nbd.close-failed', { ...facts, cause });
    }
    if (this.#export !== undefined) {
      this.#shared.meters.give(this.#export.meter);
      this.#shared.log.event('info', 'nbd.detached', facts);
    }
    this.#shared.over(this);
  }

  /** Once per connection and subject: strangers do not fill the log. */
  #once(level: LogLevel, name: string, about: string, facts: Facts): void {
    const key = `${name} ${about}`;
    if (this.#logged.has(key) || this.#logged.size >= this.#shared.limits.connectionLines) return;
    this.#logged.add(key);
    const who = { client: this.#client.name, export: this.#export?.name };
    const log = this.#export === undefined ? this.#shared.strangers : this.#shared.log;
    log.event(level, name, { ...who, ...facts });
  }
}
