import type { Completion } from '../contracts/call.ts';
import { CHUNK, CMD, CMD_FLAG } from './constants.ts';
import {
  DATA_CHUNK_BYTES,
  putChunkHeader,
  putOffset,
  putSimpleReply,
  SIMPLE_REPLY_BYTES,
} from './frames.ts';
import type { InFlight, Request } from './in-flight.ts';
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

  begin(high: number, low: number, flags: number, offset: number, length: number): void {
    const { limits, replies } = this.#flight;
    const whole = !replies.structured || (flags & CMD_FLAG.DF) !== 0;
    this.bytes += length;
    if (length === 0) {
      replies.readDone(high, low);
    } else if (length > limits.readPieceBytes) {
      this.#beginLarge({ high, low, type: CMD.READ, flags }, offset, length, whole);
    } else if (!whole && length >= limits.holeProbeBytes && this.#zeroNow(offset, length)) {
      replies.hole(high, low, offset, length, true);
    } else {
      this.#beginSmall(high, low, flags, offset, length);
    }
  }

  /** The large read that holds everything up begins what it may by now. */
  advance(): void {
    if (this.#large?.advance()) this.#large = undefined;
  }

  #zeroNow(offset: number, length: number): boolean {
    return this.#flight.device.zeroNow?.(offset, length) ?? false;
  }

  #beginSmall(high: number, low: number, flags: number, offset: number, length: number): void {
    const { device, outbound, replies } = this.#flight;
    const header = replies.structured ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
    const at = outbound.reserve(header + length);
    const { bytes, view } = outbound.slab;
    if (replies.structured) {
      putChunkHeader(view, at, high, low, CHUNK.OFFSET_DATA, true, 8 + length);
      putOffset(view, at + 20, offset);
    } else {
      putSimpleReply(view, at, high, low, 0);
    }
    let waiting: Completion;
    try {
      waiting = device.read(offset, bytes.subarray(at + header, at + header + length));
    } catch (error) {
      outbound.cancel(at);
      this.#flight.answerFailure({ high, low, type: CMD.READ, flags }, error);
      return;
    }
    if (waiting !== undefined) this.#await({ high, low, type: CMD.READ, flags }, waiting, at);
  }

  /** The reply keeps its place, which began at `at`, and leaves when it is complete. */
  #await(request: Request, waiting: Promise<void>, at: number): void {
    const { outbound } = this.#flight;
    const held = outbound.hold(at);
    this.#flight.begin();
    waiting.then(
      () => {
        outbound.sendHeld(held);
        this.#flight.end();
      },
      (error: unknown) => {
        outbound.dropHeld(held);
        this.#flight.fail(request, error);
      },
    );
  }

  #beginLarge(request: Request, at: number, length: number, whole: boolean): void {
    const range = { request, at, end: at + length };
    this.#flight.begin();
    const read = whole ? new WholeRead(this.#flight, range) : new CutRead(this.#flight, range);
    if (!read.advance()) this.#large = read;
  }
}
