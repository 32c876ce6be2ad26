import { AssertionFailure } from '../base/assert.ts';
import { describeError, type Facts } from '../base/errors.ts';
import type { Log, LogLevel } from '../base/log.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import type { Client, Exports } from '../contracts/exports.ts';
import type { ByteStream, Loan, StreamEvents } from '../contracts/net.ts';
import type { Clock } from '../contracts/seams.ts';
import { Assembler } from './assembler.ts';
import { optionRefusalOf } from './errno.ts';
import { greeting } from './frames.ts';
import {
  type Answer,
  answer,
  type Effect,
  FIRST_STATE,
  need,
  type Question,
  type State,
  type Step,
  step,
} from './handshake.ts';
import { Inbound } from './inbound.ts';
import type { NbdLimits } from './limits.ts';
import { Outbound } from './outbound.ts';
import type { SlabPool } from './slabs.ts';
import { Transmission } from './transmission.ts';
import type { Terms } from './validate.ts';

/** What all connections of a server share. */
export interface Shared {
  readonly exports: Exports;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: NbdLimits;
  readonly slabs: SlabPool;
  readonly fatal: (error: AssertionFailure) => void;
  /** `connection` left the handshake; `over`: it is gone and its device is closed. */
  begun(connection: Connection): void;
  over(connection: Connection): void;
}

/** What an administrator wants to know of an attached client. */
export interface ConnectionInfo {
  readonly client: string;
  readonly transport: 'tcp' | 'unix';
  readonly exportName: string;
  readonly readOnly: boolean;
  /** Wall time, in milliseconds. */
  readonly attachedAtMs: number;
  readonly requests: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly inFlight: number;
}

/**
 * The one I/O loop of a client: bytes go to the handshake, then to the transmission; what these
 * decide goes to the stream. Phases only move forward:
 *
 *   handshake ──▶ transmission ──▶ ending ──▶ closed
 *
 * In `ending` everything has been sent, and we wait for the other side to close: closing first with
 * unread bytes in the kernel would make it throw away replies that are still under way.
 */
export class Connection implements StreamEvents {
  readonly #stream: ByteStream;
  readonly #shared: Shared;
  readonly #client: Client;
  readonly #since: number;
  #phase: 'handshake' | 'transmission' | 'ending' | 'closed' = 'handshake';
  #state: State = FIRST_STATE;
  readonly #assembler = new Assembler();
  readonly #inbound = new Inbound();
  #outbound: Outbound | undefined;
  #transmission: Transmission | undefined;
  #device: BlockDevice | undefined;
  #export: { name: string; terms: Terms; attachedAtMs: number } | undefined;
  #stopping = false;
  /** A question or a handshake reply is under way; nothing is read from the client meanwhile. */
  #busy = false;
  /** What of a chunk could not be used yet; the stream is paused while it is there. */
  #rest: { readonly chunk: Uint8Array; at: number; readonly loan: Loan } | undefined;
  #inputEnded = false;
  /** Since when the client has taken no reply, and how much waits for it. */
  #unread = { bytes: 0, sinceMs: 0 };
  #endingSinceMs = 0;
  readonly #logged = new Set<string>();

  constructor(stream: ByteStream, shared: Shared) {
    this.#stream = stream;
    this.#shared = shared;
    this.#client = { name: stream.peerName, transport: stream.transport };
    this.#since = shared.clock.monotonicMs();
  }

  start(): void {
    this.#stream.start(this);
    this.#reply(greeting());
  }

  get inHandshake(): boolean {
    return this.#phase === 'handshake';
  }

  /** Undefined unless it is attached to an export. */
  info(): ConnectionInfo | undefined {
    const transmission = this.#transmission;
    if (this.#export === undefined || transmission === undefined) return undefined;
    return {
      client: this.#client.name,
      transport: this.#client.transport,
      exportName: this.#export.name,
      readOnly: this.#export.terms.readOnly,
      attachedAtMs: this.#export.attachedAtMs,
      requests: transmission.requests,
      readBytes: transmission.readBytes,
      writtenBytes: transmission.writtenBytes,
      inFlight: transmission.waiting,
    };
  }

  /**
   * The server is stopping. Options are answered with ERR_SHUTDOWN; requests in flight are finished
   * and the connection ends. A request that was not begun gets no reply: a client that reconnects
   * sends it again, while ESHUTDOWN would reach the guest as an I/O error.
   */
  stop(): void {
    this.#stopping = true;
    this.#transmission?.disconnect();
  }

  /** Closes at once. */
  close(): void {
    this.#stream.destroy();
  }

  /** Looks at the clock: late handshakes, clients that read nothing, ends that never come. */
  sweep(nowMs: number): void {
    const { limits } = this.#shared;
    if (this.#phase === 'handshake' && nowMs - this.#since >= limits.handshakeMs) {
      this.#once('info', 'nbd.handshake-timeout', '', {});
      this.close();
    } else if (this.#phase === 'ending' && nowMs - this.#endingSinceMs >= limits.lingerMs) {
      this.close();
    }
    const bytes = this.#stream.unsentBytes;
    if (bytes === 0 || bytes !== this.#unread.bytes) this.#unread = { bytes, sinceMs: nowMs };
    else if (nowMs - this.#unread.sinceMs >= limits.unreadMs) {
      this.#once('warn', 'nbd.replies-unread', '', { bytes });
      this.close();
    }
  }

  // StreamEvents

  received(chunk: Uint8Array, loan: Loan): void {
    const at = this.#feed(chunk, 0, loan);
    if (at === chunk.length) return;
    loan.hold();
    this.#rest = { chunk, at, loan };
    this.#stream.pause();
  }

  ended(): void {
    this.#inputEnded = true;
    this.#endOfInput();
  }

  closed(cause?: Error): void {
    const was = this.#phase;
    this.#phase = 'closed';
    this.#outbound?.close();
    this.#rest?.loan.release();
    this.#rest = undefined;
    if (cause !== undefined && was === 'transmission') {
      this.#once('info', 'nbd.connection-lost', '', { cause: describeError(cause) });
    }
    this.#transmission?.disconnect();
    this.#releaseIfIdle();
  }

  // Input

  /** Uses `chunk` from `at` on; returns how far it came. */
  #feed(chunk: Uint8Array, at: number, loan: Loan): number {
    if (this.#phase === 'handshake') at = this.#feedHandshake(chunk, at);
    const transmission = this.#transmission;
    if (this.#phase === 'transmission' && transmission !== undefined) {
      transmission.loan = loan;
      at = this.#inbound.push(chunk, at, transmission);
      transmission.outbound.flush();
      transmission.stalled = at < chunk.length;
      return at;
    }
    // What comes after the end is read, so that the other side sees ours, and thrown away.
    return this.#phase === 'handshake' ? at : chunk.length;
  }

  #feedHandshake(chunk: Uint8Array, at: number): number {
    while (this.#phase === 'handshake' && !this.#busy) {
      const { run, used } = this.#assembler.take(need(this.#state), chunk, at);
      at += used;
      if (run === undefined) return at;
      this.#perform(step(this.#state, run, this.#circumstances));
    }
    return at;
  }

  /** Goes on with what had to wait, and with reading. */
  #continue(): void {
    const rest = this.#rest;
    if (rest !== undefined && this.#phase !== 'closed') {
      rest.at = this.#feed(rest.chunk, rest.at, rest.loan);
      if (rest.at < rest.chunk.length || this.#rest !== rest) return;
      this.#rest = undefined;
      rest.loan.release();
      this.#stream.resume();
    }
    if (this.#inputEnded) this.#endOfInput();
  }

  /** The client sends no more: like DISC, once everything that it sent has been used. */
  #endOfInput(): void {
    if (this.#rest !== undefined || this.#busy) return;
    if (this.#phase === 'handshake') this.#end();
    else if (this.#phase === 'transmission') this.#transmission?.disconnect();
  }

  // Handshake

  get #circumstances() {
    return { limits: this.#shared.limits, stopping: this.#stopping };
  }

  #perform(next: Step): void {
    this.#state = next.state;
    for (const effect of next.effects) this.#effect(effect);
  }

  #effect(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        return this.#reply(effect.bytes);
      case 'ask':
        this.#busy = true;
        void this.#ask(effect.question);
        return;
      case 'refuse':
        this.#once('warn', 'nbd.handshake-refused', effect.why, { why: effect.why });
        return this.#end();
      case 'begin':
        return this.#begin(effect.terms, effect.name);
      case 'end':
        return this.#end();
    }
  }

  /** The client is read again once it can have the reply: so replies never pile up. */
  #reply(bytes: Uint8Array): void {
    this.#busy = true;
    this.#stream.write(bytes, () => {
      if (this.#state.at === 'asking') return;
      if (this.#phase !== 'closed' && this.#stream.unsentBytes > 0) return;
      this.#busy = false;
      if (this.#phase === 'closed') this.#releaseIfIdle();
      else this.#continue();
    });
  }

  async #ask(question: Question): Promise<void> {
    let given: Answer;
    try {
      given = await this.#answerOf(question);
    } catch (error) {
      if (error instanceof AssertionFailure) this.#shared.fatal(error);
      const cause = describeError(error);
      this.#once('warn', 'nbd.export-refused', question.ask, { cause });
      given = optionRefusalOf(error);
    }
    this.#busy = false;
    if (this.#phase === 'closed') return this.#releaseIfIdle();
    this.#perform(answer(this.#state, given, this.#circumstances));
    if (!this.#busy) this.#continue();
  }

  async #answerOf(question: Question): Promise<Answer> {
    const { exports } = this.#shared;
    if (question.ask === 'list') return { entries: await exports.list(this.#client) };
    const { name } = question.about;
    if (question.ask !== 'open') return { info: await exports.info(name, this.#client) };
    this.#device = await exports.open(name, this.#client);
    return { info: this.#device?.info };
  }

  #begin(terms: Terms, name: string): void {
    const { limits, slabs, fatal, clock, log } = this.#shared;
    const device = this.#device;
    if (device === undefined) return;
    const outbound = new Outbound(this.#stream, slabs, limits, () => {
      this.#transmission?.slabFreed();
    });
    this.#outbound = outbound;
    this.#transmission = new Transmission(device, terms, outbound, limits, {
      unblocked: () => this.#continue(),
      finished: () => this.#finished(),
      broken: (why) => this.#broken(why),
      fatal,
      once: (level, event, about, facts) => this.#once(level, event, about, facts),
    });
    this.#phase = 'transmission';
    this.#busy = false;
    this.#export = { name, terms, attachedAtMs: clock.wallMs() };
    log.event('info', 'nbd.attached', { client: this.#client.name, export: name });
    this.#shared.begun(this);
    if (this.#stopping) this.#transmission.disconnect();
  }

  // Ends

  /** Everything in flight is answered; or the stream is gone and nobody uses the device now. */
  #finished(): void {
    if (this.#phase === 'closed') this.#release();
    else if (this.#phase === 'transmission') this.#end();
  }

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
    this.#continue();
  }

  /** The handshake ends with the stream; a transmission with its last request: see `#finished`. */
  #releaseIfIdle(): void {
    if (this.#transmission === undefined && !this.#busy) this.#release();
  }

  #releasing = false;
  /** The stream is gone and nothing is in flight: the device goes back, then all is over. */
  #release(): void {
    if (this.#releasing) return;
    this.#releasing = true;
    void this.#closeDevice();
  }
  async #closeDevice(): Promise<void> {
    const facts = { client: this.#client.name, export: this.#export?.name };
    try {
      this.#outbound?.flush();
      await this.#device?.[Symbol.asyncDispose]();
    } catch (error) {
      if (error instanceof AssertionFailure) this.#shared.fatal(error);
      const cause = describeError(error);
      this.#shared.log.event('error', 'nbd.close-failed', { ...facts, cause });
    }
    if (this.#export !== undefined) this.#shared.log.event('info', 'nbd.detached', facts);
    this.#shared.over(this);
  }

  /** Once per connection and subject: strangers do not fill the log. */
  #once(level: LogLevel, name: string, about: string, facts: Facts): void {
    const key = `${name} ${about}`;
    if (this.#logged.has(key)) return;
    this.#logged.add(key);
    const who = { client: this.#client.name, export: this.#export?.name };
    this.#shared.log.event(level, name, { ...who, ...facts });
  }
}
