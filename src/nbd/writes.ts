import type { Completion } from '../contracts/call.ts';
import type { Loan } from '../contracts/net.ts';
import { attempt, DURABLE, FLUSHED_SOON, PLAIN } from './attempt.ts';
import { CMD, CMD_FLAG } from './constants.ts';
import type { Refusal } from './errno.ts';
import type { InFlight, Request } from './in-flight.ts';
import { Carry, type PieceSink, WritePieces } from './write-pieces.ts';

/** WRITE: the payload goes to the device from where it was received. */
export class Writes {
  readonly #flight: InFlight;
  /** Of the chunk in which the payload lies. */
  loan: Loan = { hold: () => undefined, release: () => undefined };
  /** Given to the device so far. */
  bytes = 0;

  // The WRITE whose payload is arriving.
  #high = 0;
  #low = 0;
  #flags = 0;
  #at = 0;
  #length = 0;
  #refused: Refusal | undefined;
  #pieces: WritePieces | undefined;
  readonly #carry = new Carry();

  constructor(flight: InFlight) {
    this.#flight = flight;
  }

  /** @returns false if the payload is refused and too long to be swallowed */
  begin(
    high: number,
    low: number,
    flags: number,
    offset: number,
    length: number,
    refused: Refusal | undefined,
  ): boolean {
    this.#high = high;
    this.#low = low;
    this.#flags = flags;
    this.#at = offset;
    this.#length = length;
    this.#refused = refused;
    if (refused !== undefined) {
      if (length === 0) this.#flight.answerRefusal(high, low, CMD.WRITE, refused);
      return length <= this.#flight.limits.writeSkipMaxBytes;
    }
    if (length === 0) this.#flight.replies.done(high, low);
    return true;
  }

  payload(bytes: Uint8Array, last: boolean): void {
    const refused = this.#refused;
    if (refused !== undefined) {
      if (last) this.#flight.answerRefusal(this.#high, this.#low, CMD.WRITE, refused);
    } else if (bytes.length === this.#length && bytes.length <= this.#pieceBytes) {
      this.#whole(bytes);
    } else {
      this.#pieces ??= new WritePieces(this.#at, this.#carry, this.#pieceBytes, this.#inPieces());
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
  get #request(): Request {
    return { high: this.#high, low: this.#low, type: CMD.WRITE, flags: this.#flags };
  }

  /** All of the payload at once. */
  #whole(bytes: Uint8Array): void {
    const { device, replies } = this.#flight;
    this.bytes += bytes.length;
    let waiting: Completion;
    try {
      const durable = (this.#flags & CMD_FLAG.FUA) !== 0;
      waiting = device.write(this.#at, bytes, durable ? DURABLE : PLAIN);
    } catch (error) {
      this.#flight.answerFailure(this.#request, error);
      return;
    }
    if (waiting === undefined) replies.done(this.#high, this.#low);
    else this.#await(waiting);
  }
  #await(waiting: Promise<void>): void {
    const request = this.#request;
    const { loan } = this;
    loan.hold();
    this.#flight.begin();
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
    const request = this.#request;
    const range = { at: this.#at, length: this.#length };
    const flight = this.#flight;
    /** Pieces in flight, and one for the payload that is still arriving. */
    let open = 1;
    let failure: { readonly error: unknown } | undefined;
    let abandoned = false;
    const settled = () => {
      open -= 1;
      if (open > 0) return;
      if (abandoned) flight.end();
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
    flight.begin();
    return {
      piece: (at, bytes, lent) => {
        if (failure === undefined) {
          this.bytes += bytes.length;
          write(at, bytes, lent);
        }
        if (at + bytes.length === range.at + range.length) settled();
      },
      abandoned: () => {
        abandoned = true;
        settled();
      },
    };
  }
}
