import { AssertionFailure } from '../base/assert.ts';
import { describeError, type Facts } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import type { BlockDevice } from '../contracts/block-device.ts';
import type { Client, Exports } from '../contracts/exports.ts';
import type { ByteStream } from '../contracts/net.ts';
import { Assembler } from './assembler.ts';
import { optionRefusalOf } from './errno.ts';
import { greeting, joined } from './frames.ts';
import { FIRST_STATE, need, step } from './handshake.ts';
import { answer } from './handshake-answers.ts';
import type { Answer, Effect, Question, State, Step } from './handshake-state.ts';
import type { NbdLimits } from './limits.ts';
import type { Terms } from './validate.ts';

/** What a negotiation tells its connection. */
export interface NegotiationEvents {
  /** No longer `busy`: more may be fed. */
  idle(): void;
  /** An export is chosen, and `device` is it. */
  begin(device: BlockDevice, terms: Terms, name: string): void;
  /** Nothing more is to be said. */
  end(): void;
  fatal(error: AssertionFailure): void;
  /** An event worth a line, at most once for each `name` and `about`. */
  once(level: LogLevel, name: string, about: string, facts: Facts): void;
}

/** Carries out a handshake: feeds its states, sends its replies, asks the exports. */
export class Negotiation {
  readonly #stream: ByteStream;
  readonly #client: Client;
  readonly #exports: Exports;
  readonly #limits: NbdLimits;
  readonly #events: NegotiationEvents;
  readonly #assembler = new Assembler();
  #state: State = FIRST_STATE;
  #asking = false;
  #replying = false;
  #stopping = false;
  #device: BlockDevice | undefined;

  constructor(
    stream: ByteStream,
    client: Client,
    exports: Exports,
    limits: NbdLimits,
    events: NegotiationEvents,
  ) {
    this.#stream = stream;
    this.#client = client;
    this.#exports = exports;
    this.#limits = limits;
    this.#events = events;
  }

  /** A question or a reply is under way; the client is read no further meanwhile. */
  get busy(): boolean {
    return this.#asking || this.#replying;
  }
  /** What was opened, whether or not the connection lived to use it: its owner closes it. */
  get device(): BlockDevice | undefined {
    return this.#device;
  }

  start(): void {
    this.#reply(greeting());
  }

  /** From now on options are answered with ERR_SHUTDOWN. */
  stop(): void {
    this.#stopping = true;
  }

  /** Uses `chunk` from `at` on; returns how far it came: to the end, until busy, or until over. */
  feed(chunk: Uint8Array, at: number): number {
    while (!this.busy && this.#state.at !== 'over') {
      const { run, used } = this.#assembler.take(need(this.#state), chunk, at);
      at += used;
      if (run === undefined) return at;
      this.#perform(step(this.#state, run, this.#circumstances));
    }
    return at;
  }

  get #circumstances() {
    return { limits: this.#limits, stopping: this.#stopping };
  }

  /** What is to be sent leaves in one write: a listing has thousands of replies. */
  #perform(next: Step): void {
    this.#state = next.state;
    const frames = next.effects.flatMap((effect) => (effect.do === 'send' ? effect.bytes : []));
    if (frames.length > 0) this.#reply(joined(frames));
    for (const effect of next.effects) this.#carryOut(effect);
  }

  #carryOut(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        break; // in #perform
      case 'ask':
        void this.#ask(effect.question);
        break;
      case 'refuse':
        this.#events.once('warn', 'nbd.handshake-refused', effect.why, { why: effect.why });
        this.#events.end();
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

  /** The client is read again once it can have the reply: so replies never pile up. */
  #reply(bytes: Uint8Array): void {
    this.#replying = true;
    this.#stream.write(bytes, () => {
      if (this.#stream.unsentBytes > 0) return;
      this.#replying = false;
      if (!this.busy) this.#events.idle();
    });
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
    this.#perform(answer(this.#state, given, this.#circumstances));
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
