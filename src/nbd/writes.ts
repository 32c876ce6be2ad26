import type { Completion } from '../contracts/call.ts';
import type { Loan } from '../contracts/net.ts';
import { attempt, DURABLE, FLUSHED_SOON, PLAIN } from './attempt.ts';
import { CMD_FLAG } from './constants.ts';
import type { Refusal } from './errno.ts';
import type { Head } from './head.ts';
import type { InFlight } from './in-flight.ts';
import { Carry, type PieceSink, WritePieces } from './write-pieces.ts';

/** WRITE: the payload goes to the device from where it was received. */
export class Writes {
  readonly #flight: InFlight;
  /** Of the chunk in which the payload lies. */
  loan: Loan = { hold: () => undefined, release: () => undefined };
  /** Given to the device so far. */
  bytes = 0;

  /** Of the WRITE whose payload is arriving. */
  readonly #head: Head;
  #refused: Refusal | undefined;
  #pieces: WritePieces | undefined;
  readonly #carry = new Carry();

  /** @param head  the connection's: it stays what it is until the payload is over */
  constructor(flight: InFlight, head: Head) {
    this.#flight = flight;
    this.#head = head;
  }

  /** @returns false if the payload is refused and too long to be swallowed */
  begin(refused: Refusal | undefined): boolean {
    const { length } = this.#head;
    this.#refused = refused;
    if (refused !== undefined) {
      if (length === 0) this.#refuse(refused);
      return length <= this.#flight.limits.writeSkipMaxBytes;
    }
    if (length > 0) return true;
    this.#flight.stopwatch.take(this.#head, 0);
    this.#flight.replies.done(this.#head);
    return true;
  }

  payload(bytes: Uint8Array, last: boolean): void {
    const refused = this.#refused;
    if (refused !== undefined) {
      if (last) this.#refuse(refused);
    } else if (bytes.length === this.#head.length && bytes.length <= this.#pieceBytes) {
      this.#whole(bytes);
    } else {
      const { offset } = this.#head;
      this.#pieces ??= new WritePieces(offset, this.#carry, this.#pieceBytes, this.#inPieces());
      this.#pieces.push(bytes, last, this.loan);
      if (last) this.#pieces = undefined;
    }
  }

  /** No more payload will come. What is settled by then stays written; nobody is told. */
  abandon(): void {
    this.#pieces?.abandon();
    this.#pieces = undefined;
  }

  get #pieceBytes(): number {
    return this.#flight.limits.writePieceBytes;
  }

  #refuse(refused: Refusal): void {
    this.#flight.stopwatch.take(this.#head, 0);
    this.#flight.answerRefusal(this.#head, refused);
  }

  /** All of the payload at once. */
  #whole(bytes: Uint8Array): void {
    const { device, replies, stopwatch } = this.#flight;
    const head = this.#head;
    stopwatch.take(head, head.length);
    this.bytes += bytes.length;
    let waiting: Completion;
    try {
      const durable = (head.flags & CMD_FLAG.FUA) !== 0;
      waiting = device.write(head.offset, bytes, durable ? DURABLE : PLAIN);
    } catch (error) {
      this.#flight.answerFailure(head, error);
      return;
    }
    if (waiting === undefined) replies.done(head);
    else this.#await(waiting);
  }
  #await(waiting: Promise<void>): void {
    const request = this.#flight.begin(this.#head);
    const { loan } = this;
    loan.hold();
    waiting.then(
      () => {
        loan.release();
        this.#flight.succeed(request);
      },
      (error: unknown) => {
        loan.release();
        this.#flight.fail(request, error);
      },
    );
  }

  /**
   * Pieces go to the device one by one and not durable; one reply follows when all are settled, with
   * FUA after a flush of their range. After a failure the rest of the payload is only swallowed.
   */
  #inPieces(): PieceSink {
    const flight = this.#flight;
    flight.stopwatch.take(this.#head, this.#head.length);
    const request = flight.begin(this.#head);
    const range = { at: this.#head.offset, length: this.#head.length };
    /** Pieces in flight, and one for the payload that is still arriving. */
    let open = 1;
    let failure: { readonly error: unknown } | undefined;
    let abandoned = false;
    const settled = () => {
      open -= 1;
      if (open > 0) return;
      if (abandoned) flight.leave();
      else if (failure !== undefined) flight.fail(request, failure.error);
      else if ((request.flags & CMD_FLAG.FUA) === 0) flight.succeed(request);
      else flight.settle(request, () => flight.device.flush({ range }));
    };
    const write = (at: number, bytes: Uint8Array, lent: Loan) => {
      open += 1;
      let waits = false;
      const over = () => {
        if (waits) lent.release();
        settled();
      };
      const failed = (error: unknown) => {
        failure ??= { error };
        over();
      };
      waits = attempt(() => flight.device.write(at, bytes, call), over, failed);
      if (waits) lent.hold();
    };
    const call = (request.flags & CMD_FLAG.FUA) === 0 ? PLAIN : FLUSHED_SOON;
    return {
      piece: (at, bytes, lent) => {
        if (failure === undefined) {
          this.bytes += bytes.length;
          write(at, bytes, lent);
        }
        if (at + bytes.length < range.at + range.length) return;
        request.arrived = flight.stopwatch.turn;
        settled();
      },
      abandoned: () => {
        abandoned = true;
        settled();
      },
    };
  }
}
