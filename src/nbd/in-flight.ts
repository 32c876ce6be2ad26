import { AssertionFailure } from '../base/assert.ts';
import { describeError, type Facts, SheepError } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import type { Completion } from '../contracts/call.ts';
import { attempt } from './attempt.ts';
import { CMD, CMD_FLAG, ERRNO, nameOf } from './constants.ts';
import { type Refusal, refusalOf } from './errno.ts';
import type { Asked, Head, Request } from './head.ts';
import type { NbdLimits } from './limits.ts';
import type { Outbound } from './outbound.ts';
import { Replies } from './replies.ts';
import type { Stopwatch } from './stopwatch.ts';
import type { ReplyForm } from './validate.ts';

/** What a transmission tells its connection. */
export interface TransmissionEvents {
  /** Something settled or was sent: there may be room for more. Never called from inside a call. */
  progress(): void;
  /** The stream cannot go on; the connection closes at once. */
  broken(why: string): void;
  /** A broken belief: the process must not go on. */
  fatal(error: AssertionFailure): void;
  /** An event worth a line, at most once for each `name` and `about`. */
  once(level: LogLevel, name: string, about: string, facts: Facts): void;
}

/**
 * What is no failure of the store: that there is no fast way to zeroes is an answer, and that what a
 * client once selected is not there any more, such as a snapshot, is a refusal.
 */
const LEVELS: Readonly<Record<number, LogLevel>> = {
  [ERRNO.ENOTSUP]: 'debug',
  [ERRNO.EINVAL]: 'warn',
  [ERRNO.EPERM]: 'warn',
};

/** The requests of one connection that wait for the device, and how each is answered. */
export class InFlight {
  readonly device: BlockDevice;
  readonly outbound: Outbound;
  readonly replies: Replies;
  readonly limits: NbdLimits;
  readonly stopwatch: Stopwatch;
  readonly #events: TransmissionEvents;
  #count = 0;
  #answered: Request | undefined;
  #lookScheduled = false;
  readonly #gone = new AbortController();

  constructor(
    device: BlockDevice,
    form: ReplyForm,
    outbound: Outbound,
    limits: NbdLimits,
    stopwatch: Stopwatch,
    events: TransmissionEvents,
  ) {
    this.device = device;
    this.outbound = outbound;
    this.replies = new Replies(outbound, form, limits);
    this.limits = limits;
    this.stopwatch = stopwatch;
    this.#events = events;
  }

  get count(): number {
    return this.#count;
  }

  /** Aborted once nobody is there to be answered: what goes on in steps ends with the next one. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }
  abandon(): void {
    this.#gone.abort(new SheepError('ERR_IO', 'nobody waits for it any more'));
  }

  /** A request that may outlive the call in which it arrived. */
  begin(head: Head): Request {
    const request = head.kept(this.stopwatch.turn);
    this.#count += 1;
    this.stopwatch.wait(request);
    return request;
  }
  /** Answered, whichever way. */
  end(request: Request): void {
    this.stopwatch.answer(request);
    this.#answered = request;
    this.leave();
  }
  /** Over, and nobody waits for an answer any more. */
  leave(): void {
    this.#count -= 1;
    this.look();
  }
  /** The one that was answered last since this was asked last. */
  takeAnswered(): Request | undefined {
    const answered = this.#answered;
    this.#answered = undefined;
    return answered;
  }

  /** Looks for progress, in a microtask, so that what settles together is sent together. */
  look(): void {
    if (this.#lookScheduled) return;
    this.#lookScheduled = true;
    queueMicrotask(() => {
      this.#lookScheduled = false;
      this.#events.progress();
    });
  }

  /** Runs what was begun, and answers for it. */
  settle(request: Request, start: () => Completion): void {
    attempt(
      start,
      () => this.succeed(request),
      (error) => this.fail(request, error),
    );
  }
  succeed(request: Request): void {
    this.replies.done(request);
    this.end(request);
  }
  fail(request: Request, error: unknown): void {
    if (this.signal.aborted && error === this.signal.reason) this.#answerAbandoned(request);
    else this.answerFailure(request, error);
    this.end(request);
  }
  /** Not a failure of the store; that nobody reads the answer is likely, and not certain. */
  #answerAbandoned(request: Request): void {
    const { type, offset, length } = request;
    const facts = { command: nameOf(CMD, type), offset, length };
    this.#events.once('info', 'nbd.request-abandoned', `${type}`, facts);
    this.replies.refused(request, { errno: ERRNO.EIO, text: 'given up: the client seemed gone' });
  }

  /** The device failed: the true cause goes to the log, a number and a sentence to the client. */
  answerFailure(request: Asked, error: unknown): void {
    this.replies.refused(request, this.explain(request, error));
  }
  explain({ type, flags }: Asked, error: unknown): Refusal {
    if (error instanceof AssertionFailure) this.#events.fatal(error);
    const refused = refusalOf(error, {
      fastZero: (flags & CMD_FLAG.FAST_ZERO) !== 0,
      df: (flags & CMD_FLAG.DF) !== 0,
    });
    this.stopwatch.fail(type, refused.errno);
    const facts = { command: nameOf(CMD, type), errno: refused.errno, cause: describeError(error) };
    const level = LEVELS[refused.errno] ?? 'error';
    this.#events.once(level, 'nbd.request-failed', `${type} ${refused.errno}`, facts);
    return refused;
  }

  /** The client asked what it must not, or what does not fit; the connection goes on. */
  answerRefusal(request: Asked, refused: Refusal): void {
    const { type } = request;
    this.stopwatch.fail(type, refused.errno);
    const facts = { command: nameOf(CMD, type), errno: refused.errno, why: refused.text };
    this.#events.once('warn', 'nbd.request-refused', `${type} ${refused.text}`, facts);
    this.replies.refused(request, refused);
  }

  broken(why: string): void {
    this.#events.broken(why);
  }
}
