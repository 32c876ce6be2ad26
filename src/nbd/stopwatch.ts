import type { Facts } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Clock } from '../contracts/seams.ts';
import { CMD, nameOf } from './constants.ts';
import type { Head, Request, Turn } from './head.ts';
import { COMMANDS, commandOf, type ExportMeter } from './meter.ts';
import type { Outbound } from './outbound.ts';

/** What a stopwatch tells, and whom. */
export interface StopwatchParts {
  readonly clock: Clock;
  readonly meter: ExportMeter;
  readonly outbound: Outbound;
  /** Gets `nbd.slow-request`. */
  readonly log: Log;
  /** Whose requests they are, for that. */
  readonly who: Facts;
  /** A request that takes at least this long is slow; 0: none is. */
  readonly slowMs: number;
}

/**
 * How long the requests of one connection take. The clock is read at the beginning and at the end of
 * each chunk: what is answered in between is answered by the write at that end, so it took that
 * long. Only a request that outlives its chunk is timed by itself.
 *
 * Measured is from when a request is begun, with as much of its payload as there is, until its reply
 * is given to the socket. What a client is slow to send counts, what he is slow to take does not.
 */
export class Stopwatch {
  readonly #parts: StopwatchParts;
  readonly #slowMs: number;
  #receivedMs = 0;
  #begunMs = 0;
  #turn: Turn | undefined;
  /** Begun in this chunk and not waiting, by command. */
  readonly #quick = new Uint32Array(COMMANDS.length);
  /** Replies that the client has not taken are being watched. */
  #watching = false;

  constructor(parts: StopwatchParts) {
    this.#parts = parts;
    this.#slowMs = parts.slowMs > 0 ? parts.slowMs : Number.POSITIVE_INFINITY;
  }

  get clock(): Clock {
    return this.#parts.clock;
  }
  /** When work at the chunk began. */
  get begunMs(): number {
    return this.#begunMs;
  }

  /** Of the chunk that is being worked at. */
  get turn(): Turn {
    this.#turn ??= { receivedMs: this.#receivedMs, begunMs: this.#begunMs };
    return this.#turn;
  }

  /** Work at a chunk begins, which may have been received some time ago: by default just now. */
  begin(receivedMs?: number): number {
    this.#begunMs = this.#parts.clock.monotonicMs();
    this.#receivedMs = receivedMs ?? this.#begunMs;
    return this.#receivedMs;
  }

  /**
   * A request of this chunk is begun.
   * @param bytes  that it is about; of a refused one none, or it could say anything, up to 2^64
   */
  take({ type }: Head, bytes: number): void {
    const command = commandOf(type);
    this.#quick[command] = (this.#quick[command] as number) + 1;
    this.#parts.meter.asked(command, bytes);
  }
  /** It waits. */
  wait(request: Request): void {
    const command = commandOf(request.type);
    if (request.turn === this.#turn) this.#quick[command] = (this.#quick[command] as number) - 1;
  }
  /** It is answered. */
  answer(request: Request): void {
    const command = commandOf(request.type);
    if (request.turn === this.#turn) {
      this.#quick[command] = (this.#quick[command] as number) + 1;
      return;
    }
    const nowMs = this.#parts.clock.monotonicMs();
    this.#parts.meter.answered(command, nowMs - request.turn.begunMs, 1);
    if (nowMs - request.turn.receivedMs >= this.#slowMs) this.#tell(request, nowMs, nowMs);
  }
  fail(type: number, errno: number): void {
    this.#parts.meter.failed(commandOf(type), errno);
  }

  /**
   * Work at the chunk is over, and its replies have left.
   * @param head  the last request in it
   * @returns when that was
   */
  end(head: Head): number {
    const nowMs = this.#parts.clock.monotonicMs();
    let count = 0;
    for (let command = 0; command < COMMANDS.length; command += 1) {
      const some = this.#quick[command] as number;
      if (some === 0) continue;
      this.#parts.meter.answered(command, nowMs - this.#begunMs, some);
      this.#quick[command] = 0;
      count += some;
    }
    if (count > 0 && nowMs - this.#receivedMs >= this.#slowMs) {
      // Nobody knows which of them it was.
      this.#tell(head.kept(this.turn), nowMs, nowMs, count > 1 ? { ofRequests: count } : {});
    } else if (count > 0 && this.#parts.outbound.unsentBytes > 0) {
      this.watchReplies(head.kept(this.turn));
    }
    this.#turn = undefined;
    return nowMs;
  }

  /** A reply was given to the socket just now; if it did not leave, how long does that take? */
  watchReplies(request: Request | undefined): void {
    const { clock, outbound } = this.#parts;
    if (request === undefined || this.#watching || outbound.unsentBytes === 0) return;
    const settledMs = clock.monotonicMs();
    // It has been told already.
    if (settledMs - request.turn.receivedMs >= this.#slowMs) return;
    this.#watching = true;
    outbound.onceTaken(() => {
      this.#watching = false;
      const nowMs = clock.monotonicMs();
      if (outbound.closed || nowMs - request.turn.receivedMs < this.#slowMs) return;
      this.#tell(request, settledMs, nowMs);
    });
  }

  #tell(request: Request, settledMs: number, takenMs: number, more: Facts = {}): void {
    const { turn, arrived = turn, type, offset, length } = request;
    const { log, who, outbound } = this.#parts;
    log.event('warn', 'nbd.slow-request', {
      ...who,
      ...{ command: nameOf(CMD, type), offset, length },
      totalMs: Math.round(takenMs - turn.receivedMs),
      waitedMs: Math.round(turn.begunMs - turn.receivedMs),
      payloadMs: Math.round(arrived.begunMs - turn.begunMs),
      deviceMs: Math.round(settledMs - arrived.begunMs),
      replyMs: Math.round(takenMs - settledMs),
      untakenBytes: outbound.unsentBytes,
      ...more,
    });
  }
}
