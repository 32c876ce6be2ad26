import type { Completion } from '../contracts/call.ts';
import { CMD_FLAG } from './constants.ts';
import type { Head, Request } from './head.ts';
import type { InFlight } from './in-flight.ts';
import { CutRead, type LargeRead, WholeRead } from './large-read.ts';

/** READ: the device fills the reply where it will be sent from. */
export class Reads {
  readonly #flight: InFlight;
  /** A large read that has pieces to begin: nothing else may begin before it. */
  #large: LargeRead | undefined;
  /** Asked for so far. */
  bytes = 0;

  constructor(flight: InFlight) {
    this.#flight = flight;
  }

  get busy(): boolean {
    return this.#large !== undefined;
  }

  begin(head: Head): void {
    const { limits, replies } = this.#flight;
    const { flags, offset, length } = head;
    const whole = !replies.structured || (flags & CMD_FLAG.DF) !== 0;
    this.bytes += length;
    if (length === 0) {
      replies.readDone(head);
    } else if (length > limits.readPieceBytes) {
      this.#beginLarge(head, whole);
    } else if (!whole && length >= limits.holeProbeBytes && this.#zeroNow(offset, length)) {
      replies.hole(head, offset, length, true);
    } else {
      this.#beginSmall(head);
    }
  }

  /** The large read that holds everything up begins what it may by now. */
  advance(): void {
    if (this.#large?.advance()) this.#large = undefined;
  }

  #zeroNow(offset: number, length: number): boolean {
    return this.#flight.device.zeroNow?.(offset, length) ?? false;
  }

  #beginSmall(head: Head): void {
    const { device, outbound, replies } = this.#flight;
    const { offset, length } = head;
    const header = replies.dataHeaderBytes;
    const at = outbound.reserve(header + length);
    const { bytes, view } = outbound.slab;
    replies.putDataHeader(view, at, head, offset, length, true);
    let waiting: Completion;
    try {
      waiting = device.read(offset, bytes.subarray(at + header, at + header + length));
    } catch (error) {
      outbound.cancel(at);
      this.#flight.answerFailure(head, error);
      return;
    }
    if (waiting !== undefined) this.#await(this.#flight.begin(head), waiting, at);
  }

  /** The reply keeps its place, which began at `at`, and leaves when it is complete. */
  #await(request: Request, waiting: Promise<void>, at: number): void {
    const { outbound } = this.#flight;
    const held = outbound.hold(at);
    waiting.then(
      () => {
        outbound.sendHeld(held);
        this.#flight.end(request);
      },
      (error: unknown) => {
        outbound.dropHeld(held);
        this.#flight.fail(request, error);
      },
    );
  }

  #beginLarge(head: Head, whole: boolean): void {
    const { offset, length } = head;
    const range = { request: this.#flight.begin(head), at: offset, end: offset + length };
    const read = whole ? new WholeRead(this.#flight, range) : new CutRead(this.#flight, range);
    if (!read.advance()) this.#large = read;
  }
}
