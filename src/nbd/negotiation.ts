import { AssertionFailure } from '../base/assert.ts';
import { describeError, type Facts } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import type { Client, Exports } from '../contracts/exports.ts';
import type { ByteStream } from '../contracts/net.ts';
import type { Clock } from '../contracts/seams.ts';
import type { Allowance } from './allowance.ts';
import { Assembler } from './assembler.ts';
import { optionRefusalOf } from './errno.ts';
import { greeting, joined } from './frames.ts';
import { FIRST_STATE, need, step } from './handshake.ts';
import { answer } from './handshake-answers.ts';
import type {
  Answer,
  Circumstances,
  Effect,
  Question,
  State,
  Step,
  TlsMode,
} from './handshake-state.ts';
import type { NbdLimits } from './limits.ts';
import type { Terms } from './validate.ts';

/** What a negotiation tells its connection. */
export interface NegotiationEvents {
  /** No longer `busy`: more may be fed. */
  idle(): void;
  /** The stream is to go on inside TLS; once it does, `secured` is called, and then fed on. */
  secure(): void;
  /** An export is chosen, and `device` is it. */
  begin(device: BlockDevice, terms: Terms, name: string): void;
  /** Nothing more is to be said. */
  end(): void;
  /** What the client sends is not to be read any more, not even to be thrown away. */
  close(): void;
  fatal(error: AssertionFailure): void;
  /** An event worth a line, at most once for each `name` and `about`. */
  once(level: LogLevel, name: string, about: string, facts: Facts): void;
}

export interface NegotiationParts {
  readonly exports: Exports;
  readonly clock: Clock;
  readonly tls: TlsMode;
  readonly limits: NbdLimits;
  /** For large options, and for large replies: whoever sends the ones keeps nobody from the others.
   * Both are shared by all clients. */
  readonly memory: Allowance;
  readonly replyMemory: Allowance;
}

/** Carries out a handshake: feeds its states, sends its replies, asks the exports. */
export class Negotiation {
  #stream: ByteStream;
  #client: Client;
  readonly #exports: Exports;
  readonly #clock: Clock;
  readonly #tls: TlsMode;
  readonly #limits: NbdLimits;
  readonly #events: NegotiationEvents;
  readonly #memory: Allowance;
  readonly #replyMemory: Allowance;
  /** Of it, what the option has that is arriving or being answered. */
  #optionBytes = 0;
  readonly #assembler = new Assembler();
  #state: State = FIRST_STATE;
  #asking = false;
  /** Replies that have not left. Their own: what comes after the handshake may wait longer. */
  #replies = 0;
  #stopping = false;
  #device: BlockDevice | undefined;

  constructor(
    stream: ByteStream,
    client: Client,
    { exports, clock, tls, limits, memory, replyMemory }: NegotiationParts,
    events: NegotiationEvents,
  ) {
    this.#stream = stream;
    this.#client = client;
    this.#exports = exports;
    this.#clock = clock;
    this.#tls = tls;
    this.#limits = limits;
    this.#memory = memory;
    this.#replyMemory = replyMemory;
    this.#events = events;
  }

  /** A question or a reply is under way; the client is read no further meanwhile. */
  get busy(): boolean {
    return this.#asking || this.#replies > 0;
  }
  /** What was opened, whether or not the connection lived to use it: its owner closes it. */
  get device(): BlockDevice | undefined {
    return this.#device;
  }

  start(): void {
    void this.#reply(greeting());
  }

  /** From now on the client speaks over this stream, inside TLS, and is who it has proven to be. */
  secured(stream: ByteStream, client: Client): void {
    this.#stream = stream;
    this.#client = client;
  }

  /** From now on options are answered with ERR_SHUTDOWN. */
  stop(): void {
    this.#stopping = true;
  }

  /** Uses `chunk` from `at` on; returns how far it came: to the end, until busy, or until over. */
  feed(chunk: Uint8Array, at: number): number {
    while (!this.busy && this.#state.at !== 'over') {
      const wanted = need(this.#state);
      const bytes = this.#assembler.bytesAfter(wanted, chunk.length - at);
      if (!this.#mayHold(bytes)) return chunk.length;
      const { run, used } = this.#assembler.take(wanted, chunk, at);
      at += used;
      if (run === undefined) return at;
      this.#perform(step(this.#state, run, this.#circumstances(at < chunk.length)));
    }
    return at;
  }

  #circumstances(followed: boolean): Circumstances {
    return { limits: this.#limits, stopping: this.#stopping, tls: this.#tls, followed };
  }

  /** The connection is gone: what it held is free for others. */
  close(): void {
    this.#memory.give(this.#optionBytes);
    this.#optionBytes = 0;
    this.#assembler.forget();
  }

  /** Whether an option may have so much memory, of what has arrived of it; if not, that is the end. */
  #mayHold(bytes: number): boolean {
    const more = bytes - this.#optionBytes;
    if (bytes <= this.#limits.optionAssuredBytes || more <= 0) return true;
    if (this.#memory.take(more)) {
      this.#optionBytes += more;
      return true;
    }
    this.#shutOut('too much option data of all clients at once');
    return false;
  }

  #refuse(why: string): void {
    this.#state = { at: 'over' };
    this.#events.once('warn', 'nbd.handshake-refused', why, { why });
    this.#events.end();
  }
  /** There is not the memory: nor should there be the time. */
  #shutOut(why: string): void {
    this.#refuse(why);
    this.#events.close();
  }

  /** What is to be sent leaves in one write: a listing has thousands of replies. */
  #perform(next: Step): void {
    this.#state = next.state;
    // What was kept of an option is no longer needed once it is answered.
    if (next.state.at !== 'data' && next.state.at !== 'asking') this.close();
    const frames = next.effects.flatMap((effect) => (effect.do === 'send' ? effect.bytes : []));
    if (frames.length > 0) void this.#reply(joined(frames));
    for (const effect of next.effects) this.#carryOut(effect);
  }

  #carryOut(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        break; // in #perform
      case 'ask':
        void this.#ask(effect.question);
        break;
      case 'secure':
        this.#events.secure();
        break;
      case 'refuse':
        this.#refuse(effect.why);
        break;
      case 'begin':
        if (this.#device !== undefined) {
          this.#events.begin(this.#device, effect.terms, effect.name);
        }
        break;
      case 'end':
        this.#events.end();
        break;
    }
  }

  /**
   * The client is read again once it can have the reply: so replies never pile up. Nor before the
   * turn is over, for a reply may leave within it: whoever sends option upon option lets the others
   * have theirs in between.
   */
  async #reply(bytes: Uint8Array): Promise<void> {
    const shared = bytes.length > this.#limits.optionAssuredBytes ? bytes.length : 0;
    if (!this.#replyMemory.take(shared)) {
      this.#shutOut('too many replies that nobody takes');
      return;
    }
    this.#replies += 1;
    const left = Promise.withResolvers<void>();
    this.#stream.write(bytes, left.resolve);
    await left.promise;
    this.#replyMemory.give(shared);
    await this.#clock.yield();
    this.#replies -= 1;
    if (!this.busy) this.#events.idle();
  }

  async #ask(question: Question): Promise<void> {
    this.#asking = true;
    let given: Answer;
    try {
      given = await this.#answerOf(question);
    } catch (error) {
      if (error instanceof AssertionFailure) this.#events.fatal(error);
      const cause = describeError(error);
      this.#events.once('warn', 'nbd.export-refused', question.ask, { cause });
      given = optionRefusalOf(error);
    }
    this.#asking = false;
    this.#perform(answer(this.#state, given, this.#circumstances(false)));
    if (!this.busy) this.#events.idle();
  }

  async #answerOf(question: Question): Promise<Answer> {
    if (question.ask === 'list') return { entries: await this.#exports.list(this.#client) };
    const { name } = question.about;
    if (question.ask !== 'open') return { info: await this.#exports.info(name, this.#client) };
    this.#device = await this.#exports.open(name, this.#client);
    return { info: this.#device?.info };
  }
}
