import { assert } from '../../base/assert.ts';
import { describeError, SheepError } from '../../base/errors.ts';
import type { ByteStream, StreamEvents } from '../../contracts/net.ts';
import type { Tls } from '../../contracts/tls.ts';
import { Assembler } from '../assembler.ts';
import { CMD, CMD_FLAG } from '../constants.ts';
import { joined, putNumber64, REQUEST_AT, REQUEST_FORM } from '../frames.ts';
import { Asked, type Question } from './asked.ts';
import { FIRST_STATE, need, type State, step, type Wanted } from './handshake.ts';
import { ReplyReader } from './replies.ts';
import type { ServerTerms } from './terms.ts';

/** Requests on their way; servers read on when they have answered some. Further ones wait here. */
const IN_FLIGHT_MAX = 128;
/** A payload up to this long leaves in one write with its header, for the price of a copy. */
const COPIED_MAX_BYTES = 16 * 1024;

/**
 * One connection to a server: the handshake, then requests, many in flight. Requests of one turn
 * leave in one write. What is received goes to its place at once, so nothing piles up; what is asked
 * is bounded by those who ask. When the connection is lost, everything fails with the reason.
 */
export class Link implements StreamEvents {
  #stream: ByteStream;
  readonly #tls: Tls | undefined;
  readonly #wanted: Wanted;
  readonly #agreed = Promise.withResolvers<ServerTerms>();
  readonly #gone = Promise.withResolvers<void>();
  readonly #assembler = new Assembler();
  #state: State = FIRST_STATE;
  #reader: ReplyReader | undefined;
  #extended = false;
  /** Asked and not yet sent, in order. */
  readonly #queue = new Set<Asked>();
  /** Sent and not yet answered, by cookie. */
  readonly #flight = new Map<number, Asked>();
  #cookie = 0;
  #sendScheduled = false;
  #failure: { readonly error: unknown } | undefined;
  #closing = false;
  #tellFailure: (error: unknown) => void = () => undefined;

  /** @param tls  what the connection goes on in before anything is asked */
  constructor(stream: ByteStream, wanted: Omit<Wanted, 'tls'>, tls?: Tls) {
    this.#stream = stream;
    this.#tls = tls;
    this.#wanted = { ...wanted, tls: tls !== undefined };
    this.#agreed.promise.catch(() => undefined); // whoever waits for it is told
    stream.start(this);
  }

  /** Settles when requests may be sent. @throws SheepError when the server refuses or speaks wrongly */
  get agreed(): Promise<ServerTerms> {
    return this.#agreed.promise;
  }

  /**
   * Sends a request and settles with its answer. @throws SheepError what the server refuses it with,
   * `ERR_IO` if the connection is lost, and the signal's reason
   */
  ask(question: Question, signal?: AbortSignal): Promise<Asked> {
    const { promise, resolve, reject } = Promise.withResolvers<Asked>();
    const aborted = () => this.#abandon(asked, signal?.reason);
    const asked = new Asked(question, (failure) => {
      signal?.removeEventListener('abort', aborted);
      this.#schedule();
      if (failure === undefined) resolve(asked);
      else reject(failure);
    });
    if (this.#failure !== undefined) {
      asked.abandon(this.#failure.error);
    } else if (signal?.aborted) {
      asked.abandon(signal.reason);
    } else {
      signal?.addEventListener('abort', aborted, { once: true });
      this.#queue.add(asked);
      this.#schedule();
    }
    return promise;
  }

  /** Gives up: everything that waits fails with `reason`. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error: reason };
    this.#agreed.reject(reason);
    this.#stream.destroy();
    for (const asked of [...this.#queue, ...this.#flight.values()]) asked.abandon(reason);
    this.#queue.clear();
    this.#flight.clear();
    if (!this.#closing) this.#tellFailure(reason);
  }

  /** Tells once that the connection is of no more use, also if it is so already; not of `close`. */
  onFailure(tell: (error: unknown) => void): void {
    if (this.#failure === undefined) this.#tellFailure = tell;
    else if (!this.#closing) tell(this.#failure.error);
  }

  /** Says goodbye and settles when the connection is closed. What is in flight fails. */
  async close(): Promise<void> {
    this.#closing = true;
    const polite = this.#failure === undefined && this.#stream.unsentBytes === 0;
    if (polite && this.#reader !== undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const goodbye = { type: CMD.DISC, flags: 0, at: 0, length: 0 };
      this.#stream.write(requestHeader(goodbye, 0, this.#extended), resolve);
      await Promise.race([promise, this.#gone.promise]);
    }
    this.fail(new SheepError('ERR_SHUTDOWN', 'the connection was closed'));
    await this.#gone.promise;
  }

  // StreamEvents

  received(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    try {
      const at = this.#reader === undefined ? this.#handshake(bytes) : 0;
      this.#reader?.push(bytes, at);
    } catch (error) {
      this.fail(error);
    }
  }
  ended(): void {
    this.#lost();
  }
  closed(cause?: Error): void {
    this.#lost(cause);
    this.#gone.resolve();
  }

  #lost(cause?: Error): void {
    const why = cause === undefined ? '' : `: ${describeError(cause)}`;
    const when = this.#reader === undefined ? ' during the handshake' : '';
    const text = `the server at ${this.#stream.peerName} closed the connection${when}${why}`;
    this.fail(new SheepError('ERR_IO', text, {}, cause));
  }

  /** Returns how much of `bytes` it used: all of them unless transmission begins. */
  #handshake(bytes: Uint8Array): number {
    let at = 0;
    for (;;) {
      const { run, used } = this.#assembler.take(need(this.#state), bytes, at);
      at += used;
      if (run === undefined) return at;
      const { state, send, secure } = step(this.#state, run, this.#wanted);
      this.#state = state;
      if (secure) {
        // It could have been put there by somebody in between, and would seem to come from inside.
        if (at < bytes.length) throw new SheepError('ERR_BAD_FRAME', 'plaintext where TLS begins');
        void this.#secure(send);
      } else if (send !== undefined) {
        this.#stream.write(send);
      }
      if (state.at !== 'over') continue;
      this.#extended = state.terms.form === 'extended';
      this.#reader = new ReplyReader(this.#flight, state.terms.form);
      this.#agreed.resolve(state.terms);
      return at;
    }
  }

  async #secure(first: Uint8Array | undefined): Promise<void> {
    assert(this.#tls !== undefined, 'TLS begins only where it was asked for');
    try {
      const { stream } = await this.#tls.secure(this.#stream);
      this.#stream = stream;
      stream.start(this);
      if (this.#failure !== undefined) stream.destroy();
      else if (first !== undefined) stream.write(first);
    } catch (error) {
      this.fail(error);
      this.#gone.resolve();
    }
  }

  #abandon(asked: Asked, reason: unknown): void {
    this.#queue.delete(asked);
    asked.abandon(reason);
  }

  /** In a microtask, so that what is asked together leaves together. */
  #schedule(): void {
    if (this.#sendScheduled || this.#queue.size === 0) return;
    this.#sendScheduled = true;
    queueMicrotask(() => {
      this.#sendScheduled = false;
      this.#send();
    });
  }

  #send(): void {
    if (this.#closing) return; // nothing follows a DISC
    let frames: Uint8Array[] = [];
    for (const asked of this.#queue) {
      if (this.#flight.size >= IN_FLIGHT_MAX) break;
      this.#queue.delete(asked);
      const cookie = this.#cookie++;
      this.#flight.set(cookie, asked);
      frames.push(requestHeader(asked.question, cookie, this.#extended));
      const { payload } = asked.question;
      if (payload === undefined) continue;
      if (payload.length <= COPIED_MAX_BYTES) {
        frames.push(payload);
        continue;
      }
      asked.lend();
      this.#stream.write(joined(frames));
      frames = [];
      this.#stream.write(payload, () => asked.returned());
    }
    if (frames.length > 0) this.#stream.write(joined(frames));
  }
}

/** "Request message"; the length of one with payload is that of the payload. */
function requestHeader(
  { type, flags, at, length, payload }: Omit<Question, 'into'>,
  cookie: number,
  extended: boolean,
): Uint8Array {
  const form = extended ? REQUEST_FORM.extended : REQUEST_FORM.compact;
  const bytes = new Uint8Array(form.bytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, form.magic);
  const carries = extended && payload !== undefined ? CMD_FLAG.PAYLOAD_LEN : 0;
  view.setUint16(REQUEST_AT.flags, flags | carries);
  view.setUint16(REQUEST_AT.type, type);
  putNumber64(view, REQUEST_AT.cookie, cookie);
  putNumber64(view, REQUEST_AT.offset, at);
  if (extended) putNumber64(view, REQUEST_AT.length, payload?.length ?? length);
  else view.setUint32(REQUEST_AT.length, length);
  return bytes;
}
