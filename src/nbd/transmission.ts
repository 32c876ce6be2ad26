import type { BlockDevice } from '../contracts/block-device.ts';
import type { Loan } from '../contracts/net.ts';
import { CMD, CMD_FLAG } from './constants.ts';
import { ExtraPayload } from './extra-payload.ts';
import { Head } from './head.ts';
import { InFlight, type TransmissionEvents } from './in-flight.ts';
import type { RequestSink } from './inbound.ts';
import type { NbdLimits } from './limits.ts';
import type { Outbound } from './outbound.ts';
import { Prefetches } from './prefetches.ts';
import { Reads } from './reads.ts';
import { Statuses } from './statuses.ts';
import type { Stopwatch } from './stopwatch.ts';
import { TurnLimit } from './turn-limit.ts';
import { refusal, type Terms } from './validate.ts';
import { Writes } from './writes.ts';

/** The clock is looked at once in so many requests that are served at once; a power of two. */
const LOOK_REQUESTS = 64;

/**
 * The transmission phase: requests become calls of the device, in the order in which they arrived,
 * and their outcome becomes replies. A READ or WRITE that the device serves at once costs no
 * promise and no object but the view of its data.
 */
export class Transmission implements RequestSink {
  readonly #terms: Terms;
  readonly #limits: NbdLimits;
  readonly #head: Head;
  readonly #flight: InFlight;
  readonly #reads: Reads;
  readonly #writes: Writes;
  readonly #statuses: Statuses;
  readonly #prefetches: Prefetches;
  readonly #extra: ExtraPayload;
  readonly #turn: TurnLimit;
  #requests = 0;
  #ending = false;
  #stalled = false;

  /** @param events  `progress` is told after this has made its own */
  constructor(
    device: BlockDevice,
    terms: Terms,
    outbound: Outbound,
    limits: NbdLimits,
    stopwatch: Stopwatch,
    events: TransmissionEvents,
  ) {
    this.#terms = terms;
    this.#limits = limits;
    this.#head = new Head(terms.form === 'extended');
    const progress = () => {
      this.#reads.advance();
      outbound.flush();
      stopwatch.watchReplies(this.#flight.takeAnswered());
      events.progress();
    };
    this.#flight = new InFlight(device, terms.form, outbound, limits, stopwatch, {
      ...events,
      progress,
    });
    this.#reads = new Reads(this.#flight);
    this.#writes = new Writes(this.#flight, this.#head);
    this.#statuses = new Statuses(this.#flight);
    this.#prefetches = new Prefetches(this.#flight);
    this.#extra = new ExtraPayload(this.#flight, this.#head, terms, this.#statuses);
    this.#turn = new TurnLimit(stopwatch.clock, limits.turnMs, () => this.#flight.look());
  }

  get blocked(): boolean {
    return (
      this.#ending ||
      this.#turn.over ||
      this.#reads.busy ||
      this.#statuses.busy ||
      this.#flight.outbound.full ||
      this.#flight.count >= this.#limits.requestsMax
    );
  }

  /** True after `end`, once everything in flight is answered. */
  get over(): boolean {
    return this.#ending && this.#flight.count === 0;
  }

  get counts() {
    return {
      requests: this.#requests,
      readBytes: this.#reads.bytes,
      writtenBytes: this.#writes.bytes,
      inFlight: this.#flight.count,
      untakenBytes: this.#flight.outbound.unsentBytes,
    };
  }

  /** No more requests. */
  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#flight.look();
  }

  /** Nobody waits for answers any more: what goes on in steps ends with the next one. */
  abandon(): void {
    this.#flight.abandon();
  }

  /** The client sends no more, perhaps in the middle of a request. */
  inputEnded(): void {
    this.#writes.abandon();
    this.end();
  }

  /**
   * `loan` is that of the chunk that is pushed next.
   * @param receivedMs  when it was received, if not just now
   * @returns that time
   */
  borrow(loan: Loan, receivedMs?: number): number {
    this.#writes.loan = loan;
    const { stopwatch } = this.#flight;
    const since = stopwatch.begin(receivedMs);
    this.#turn.begin(stopwatch.begunMs, receivedMs !== undefined);
    return since;
  }

  /** Replies of what was pushed leave; `rest`: there was more than could be pushed. */
  pushed(rest: boolean): void {
    const { outbound, stopwatch } = this.#flight;
    outbound.flush();
    this.#turn.end(stopwatch.end(this.#head));
    this.#stalled = rest;
  }

  /** Reply memory came back. */
  slabFreed(): void {
    if (this.#stalled || this.#reads.busy) this.#flight.look();
  }

  request(view: DataView, at: number): number {
    const head = this.#head;
    head.read(view, at);
    this.#requests += 1;
    if (this.#requests % LOOK_REQUESTS === 0) this.#turn.look();
    const { type } = head;
    if (type === CMD.DISC) {
      this.end();
      return 0;
    }
    if (head.hasExtraPayload) {
      if (!this.#extra.begin()) this.#broken('a payload that nobody asked for, too long to skip');
      return head.length;
    }
    const refused = refusal(this.#terms, this.#limits, head);
    if (type === CMD.WRITE) {
      const mayGoOn = this.#writes.begin(refused);
      if (!mayGoOn) this.#broken('a refused payload too long to skip');
      return head.length;
    }
    const about = refused === undefined && type !== CMD.FLUSH ? head.length : 0;
    this.#flight.stopwatch.take(head, about);
    if (refused !== undefined) this.#flight.answerRefusal(head, refused);
    else if (type === CMD.READ) this.#reads.begin(head);
    else this.#effect(head);
    return 0;
  }

  malformed(): void {
    this.#broken('request magic');
  }

  payload(bytes: Uint8Array, last: boolean): void {
    if (this.#head.type === CMD.WRITE) this.#writes.payload(bytes, last);
    else this.#extra.push(bytes, last);
  }

  /** Commands without data of their own; each may be about the whole disk. */
  #effect(head: Head): void {
    if (head.type === CMD.BLOCK_STATUS) this.#statuses.begin(head, this.#terms.contexts);
    else if (head.type === CMD.CACHE) this.#prefetches.begin(head);
    else this.#call(head);
    this.#turn.look();
  }

  #call(head: Head): void {
    const { type, flags, offset, length } = head;
    const { device } = this.#flight;
    const request = this.#flight.begin(head);
    const { signal } = this.#flight;
    const call = { durable: (flags & CMD_FLAG.FUA) !== 0, signal };
    this.#flight.settle(request, () => {
      if (type === CMD.FLUSH) return device.flush();
      // "It is unspecified what happens for a length of zero": nothing, and that successfully.
      if (length === 0) return undefined;
      if (type === CMD.TRIM) return device.trim(offset, length, call);
      const keepAllocated = (flags & CMD_FLAG.NO_HOLE) !== 0;
      const fastOnly = (flags & CMD_FLAG.FAST_ZERO) !== 0;
      return device.writeZeroes(offset, length, { ...call, keepAllocated, fastOnly });
    });
  }

  #broken(why: string): void {
    this.#ending = true;
    this.#flight.broken(why);
  }
}
