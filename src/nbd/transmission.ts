import { AssertionFailure } from '../base/assert.ts';
import { describeError, type Facts } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import type { BlockDevice, Extent } from '../contracts/block-device.ts';
import type { Completion, WriteCall } from '../contracts/call.ts';
import type { Loan } from '../contracts/net.ts';
import { attempt } from './attempt.ts';
import { CHUNK, CMD, CMD_FLAG, nameOf, REQUEST_MAGIC } from './constants.ts';
import { type Refusal, refusalOf } from './errno.ts';
import {
  DATA_CHUNK_BYTES,
  putChunkHeader,
  putOffset,
  putSimpleReply,
  REQUEST_AT,
  SIMPLE_REPLY_BYTES,
} from './frames.ts';
import type { RequestSink } from './inbound.ts';
import { CutRead, type LargeRead, type ReadHost, WholeRead } from './large-read.ts';
import type { NbdLimits } from './limits.ts';
import type { Outbound } from './outbound.ts';
import { type Cookie, Replies } from './replies.ts';
import { refusal, type Terms } from './validate.ts';
import { Carry, WritePieces } from './write-pieces.ts';

/** What a transmission tells its connection. */
export interface TransmissionEvents {
  /** Perhaps no longer `blocked`, or a large read may go on; never called from inside one. */
  unblocked(): void;
  /** After `disconnect`: everything in flight is answered. */
  finished(): void;
  /** The stream cannot go on; the connection closes at once. */
  broken(why: string): void;
  /** A broken belief: the process must not go on. */
  fatal(error: AssertionFailure): void;
  /** An event worth a line, at most once for each `name` and `about`. */
  once(level: LogLevel, name: string, about: string, facts: Facts): void;
}

const PLAIN: WriteCall = { durable: false };
const DURABLE: WriteCall = { durable: true };

/**
 * The transmission phase: requests become calls of the device, in the order in which they arrived,
 * and their outcome becomes replies. A request that the device serves at once costs no promise and
 * no object but the view of its data.
 */
export class Transmission implements RequestSink, ReadHost {
  readonly device: BlockDevice;
  readonly outbound: Outbound;
  readonly replies: Replies;
  readonly limits: NbdLimits;
  readonly #terms: Terms;
  readonly #events: TransmissionEvents;
  /** For the chunk that is being pushed; set by the connection. */
  loan: Loan = NO_LOAN;
  /** The connection holds requests that it could not push; set by the connection. */
  stalled = false;
  requests = 0;
  readBytes = 0;
  writtenBytes = 0;

  /** Requests that wait for the device. */
  #waiting = 0;
  /** A large read that has pieces to begin: nothing else may begin before it. */
  #large: LargeRead | undefined;
  #ending = false;
  #lookScheduled = false;

  // The WRITE whose payload is arriving.
  #writeHigh = 0;
  #writeLow = 0;
  #writeAt = 0;
  #writeLength = 0;
  #writeDurable = false;
  #writeRefusal: Refusal | undefined;
  #pieces: WritePieces | undefined;
  readonly #carry = new Carry();

  constructor(
    device: BlockDevice,
    terms: Terms,
    outbound: Outbound,
    limits: NbdLimits,
    events: TransmissionEvents,
  ) {
    this.device = device;
    this.outbound = outbound;
    this.limits = limits;
    this.replies = new Replies(outbound, terms.structured, limits);
    this.#terms = terms;
    this.#events = events;
  }

  get blocked(): boolean {
    return (
      this.#large !== undefined ||
      this.#ending ||
      this.outbound.full ||
      this.#waiting >= this.limits.requestsMax
    );
  }

  /** Requests in flight. */
  get waiting(): number {
    return this.#waiting;
  }

  /** No more requests: `finished` follows once those in flight are answered. */
  disconnect(): void {
    this.#ending = true;
    this.#look();
  }

  request(view: DataView, at: number): void {
    if (view.getUint32(at) !== REQUEST_MAGIC) return this.#broken('request magic');
    const flags = view.getUint16(at + REQUEST_AT.flags);
    const type = view.getUint16(at + REQUEST_AT.type);
    const high = view.getUint32(at + REQUEST_AT.cookie);
    const low = view.getUint32(at + REQUEST_AT.cookie + 4);
    const offsetHigh = view.getUint32(at + REQUEST_AT.offset);
    const offsetLow = view.getUint32(at + REQUEST_AT.offset + 4);
    const length = view.getUint32(at + REQUEST_AT.length);
    this.requests += 1;
    if (type === CMD.DISC) return this.disconnect();
    const terms = this.#terms;
    const refused = refusal(terms, this.limits, type, flags, offsetHigh, offsetLow, length);
    const offset = offsetHigh * 2 ** 32 + offsetLow;
    if (type === CMD.WRITE) return this.#write(high, low, offset, length, flags, refused);
    if (refused !== undefined) return this.#refused(high, low, type, refused);
    if (type === CMD.READ) return this.#read(high, low, offset, length, flags);
    this.#other(high, low, offset, length, type, flags);
  }

  // READ

  #read(high: number, low: number, offset: number, length: number, flags: number): void {
    if (length === 0) return this.replies.readDone(high, low);
    const { structured } = this.replies;
    const whole = !structured || (flags & CMD_FLAG.DF) !== 0;
    this.readBytes += length;
    if (length > this.limits.readPieceBytes) {
      return this.#readLarge({ cookie: { high, low }, at: offset, end: offset + length }, whole);
    }
    if (!whole && length >= this.limits.holeProbeBytes && this.device.zeroNow?.(offset, length)) {
      return this.replies.hole(high, low, offset, length, true);
    }
    const { outbound } = this;
    const header = structured ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
    const at = outbound.reserve(header + length);
    const { bytes, view } = outbound.slab;
    if (structured) {
      putChunkHeader(view, at, high, low, CHUNK.OFFSET_DATA, true, 8 + length);
      putOffset(view, at + 20, offset);
    } else {
      putSimpleReply(view, at, high, low, 0);
    }
    let waiting: Completion;
    try {
      waiting = this.device.read(offset, bytes.subarray(at + header, at + header + length));
    } catch (error) {
      outbound.cancel(at);
      return this.#failed({ high, low }, CMD.READ, flags, error);
    }
    if (waiting !== undefined) this.#awaitRead(waiting, at, { high, low }, flags);
  }

  #awaitRead(waiting: Promise<void>, at: number, cookie: Cookie, flags: number): void {
    const { outbound } = this;
    const held = outbound.hold(at);
    this.#waiting += 1;
    waiting.then(
      () => {
        outbound.sendHeld(held);
        this.finished();
      },
      (error: unknown) => {
        outbound.dropHeld(held);
        this.#failed(cookie, CMD.READ, flags, error);
        this.finished();
      },
    );
  }

  #readLarge(range: { cookie: Cookie; at: number; end: number }, whole: boolean): void {
    this.#waiting += 1;
    const read = whole ? new WholeRead(this, range) : new CutRead(this, range);
    if (!read.advance()) this.#large = read;
  }

  /** Reply memory came back. */
  slabFreed(): void {
    if (this.#large !== undefined || this.stalled) this.#look();
  }

  // ReadHost, for the large reads

  alone(): boolean {
    return this.#waiting === 1;
  }
  advanceLater(): void {
    this.#look();
  }
  refusalOf(error: unknown): Refusal {
    return this.#explain(error, CMD.READ, CMD_FLAG.DF);
  }
  finished(): void {
    this.#waiting -= 1;
    this.#look();
  }
  broken(): void {
    this.#broken('an error in the middle of a reply');
  }

  // WRITE

  #write(
    high: number,
    low: number,
    offset: number,
    length: number,
    flags: number,
    refused: Refusal | undefined,
  ): void {
    if (refused !== undefined && length > this.limits.writeSkipMaxBytes) {
      return this.#broken('a refused payload too long to skip');
    }
    this.#writeHigh = high;
    this.#writeLow = low;
    this.#writeAt = offset;
    this.#writeLength = length;
    this.#writeDurable = (flags & CMD_FLAG.FUA) !== 0;
    this.#writeRefusal = refused;
    if (length > 0) return;
    if (refused !== undefined) this.#refused(high, low, CMD.WRITE, refused);
    else this.replies.done(high, low);
  }

  payload(bytes: Uint8Array, last: boolean): void {
    const refused = this.#writeRefusal;
    if (refused !== undefined) {
      if (last) this.#refused(this.#writeHigh, this.#writeLow, CMD.WRITE, refused);
    } else if (last && this.#pieces === undefined && bytes.length <= this.limits.writePieceBytes) {
      this.#writeWhole(bytes);
    } else {
      this.#pieces ??= this.#beginPieces();
      this.#pieces.push(bytes, last, this.loan);
      if (last) this.#pieces = undefined;
    }
  }

  #writeWhole(bytes: Uint8Array): void {
    const [high, low] = [this.#writeHigh, this.#writeLow];
    this.writtenBytes += bytes.length;
    let waiting: Completion;
    try {
      waiting = this.device.write(this.#writeAt, bytes, this.#writeDurable ? DURABLE : PLAIN);
    } catch (error) {
      return this.#failed({ high, low }, CMD.WRITE, 0, error);
    }
    if (waiting === undefined) return this.replies.done(high, low);
    const { loan } = this;
    loan.hold();
    this.#await(waiting, { high, low }, CMD.WRITE, 0, () => loan.release());
  }

  /** A WRITE in pieces: each goes to the device as it arrives, one reply follows the last. */
  #beginPieces(): WritePieces {
    const cookie = { high: this.#writeHigh, low: this.#writeLow };
    const range = { at: this.#writeAt, length: this.#writeLength };
    const durable = this.#writeDurable;
    const end = range.at + range.length;
    let open = 1;
    let failure: { error: unknown } | undefined;
    this.#waiting += 1;
    const settled = () => {
      open -= 1;
      if (open > 0) return;
      if (failure !== undefined) {
        this.#failed(cookie, CMD.WRITE, 0, failure.error);
        this.finished();
      } else if (durable) {
        this.#settle(() => this.device.flush({ range }), cookie, CMD.WRITE, 0);
      } else {
        this.replies.done(cookie.high, cookie.low);
        this.finished();
      }
    };
    const piece = (at: number, bytes: Uint8Array, lent: Loan) => {
      const last = at + bytes.length === end;
      // After a failure the rest of the payload is only swallowed.
      if (failure === undefined) {
        this.writtenBytes += bytes.length;
        open += 1;
        let waits = false;
        waits = attempt(
          () => this.device.write(at, bytes, PLAIN),
          () => {
            if (waits) lent.release();
            settled();
          },
          (error) => {
            if (waits) lent.release();
            failure ??= { error };
            settled();
          },
        );
        if (waits) lent.hold();
      }
      if (last) settled();
    };
    return new WritePieces(range.at, this.#carry, this.limits.writePieceBytes, { piece });
  }

  // FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS

  #other(
    high: number,
    low: number,
    offset: number,
    length: number,
    type: number,
    flags: number,
  ): void {
    const cookie = { high, low };
    const { device } = this;
    const durable = (flags & CMD_FLAG.FUA) !== 0;
    this.#waiting += 1;
    if (type === CMD.FLUSH) return this.#settle(() => device.flush(), cookie, type, flags);
    if (type === CMD.BLOCK_STATUS) return this.#blockStatus(cookie, offset, length, flags);
    if (length === 0) return this.#settle(() => undefined, cookie, type, flags);
    const start = () => {
      if (type === CMD.TRIM) return device.trim(offset, length, durable ? DURABLE : PLAIN);
      if (type === CMD.CACHE) return device.prefetch(offset, length);
      const keepAllocated = (flags & CMD_FLAG.NO_HOLE) !== 0;
      const fastOnly = (flags & CMD_FLAG.FAST_ZERO) !== 0;
      return device.writeZeroes(offset, length, { durable, keepAllocated, fastOnly });
    };
    this.#settle(start, cookie, type, flags);
  }

  #blockStatus(cookie: Cookie, offset: number, length: number, flags: number): void {
    const countMax = (flags & CMD_FLAG.REQ_ONE) !== 0 ? 1 : this.limits.extentsMax;
    const tell = (extents: Extent[]) => {
      this.replies.blockStatus(cookie.high, cookie.low, length, extents);
      this.finished();
    };
    const failed = (error: unknown) => {
      this.#failed(cookie, CMD.BLOCK_STATUS, flags, error);
      this.finished();
    };
    let extents: Extent[] | Promise<Extent[]>;
    try {
      extents = this.device.extents(offset, length, countMax);
    } catch (error) {
      return failed(error);
    }
    if (Array.isArray(extents)) tell(extents);
    else extents.then(tell, failed);
  }

  // Outcomes

  /** Runs an operation that is counted as waiting already, and answers for it. */
  #settle(start: () => Completion, cookie: Cookie, type: number, flags: number): void {
    attempt(
      start,
      () => {
        this.replies.done(cookie.high, cookie.low);
        this.finished();
      },
      (error) => {
        this.#failed(cookie, type, flags, error);
        this.finished();
      },
    );
  }

  #await(
    waiting: Promise<void>,
    cookie: Cookie,
    type: number,
    flags: number,
    release: () => void,
  ): void {
    this.#waiting += 1;
    waiting.then(
      () => {
        release();
        this.replies.done(cookie.high, cookie.low);
        this.finished();
      },
      (error: unknown) => {
        release();
        this.#failed(cookie, type, flags, error);
        this.finished();
      },
    );
  }

  /** The device failed: the true cause goes to the log, a number and a sentence to the client. */
  #failed(cookie: Cookie, type: number, flags: number, error: unknown): void {
    this.replies.refused(cookie.high, cookie.low, this.#explain(error, type, flags));
  }
  #explain(error: unknown, type: number, flags: number): Refusal {
    if (error instanceof AssertionFailure) this.#events.fatal(error);
    const fastZero = type === CMD.WRITE_ZEROES && (flags & CMD_FLAG.FAST_ZERO) !== 0;
    const refused = refusalOf(error, { fastZero, df: (flags & CMD_FLAG.DF) !== 0 });
    const facts = { command: nameOf(CMD, type), errno: refused.errno, cause: describeError(error) };
    this.#events.once('error', 'nbd.request-failed', `${type} ${refused.errno}`, facts);
    return refused;
  }

  /** The client asked what it must not, or what does not fit; the connection goes on. */
  #refused(high: number, low: number, type: number, refused: Refusal): void {
    const facts = { command: nameOf(CMD, type), errno: refused.errno, why: refused.text };
    this.#events.once('warn', 'nbd.request-refused', `${type} ${refused.text}`, facts);
    this.replies.refused(high, low, refused);
  }

  #broken(why: string): void {
    this.#ending = true;
    this.#events.broken(why);
  }

  /** In a microtask of its own, so that what settles together is looked at and sent once. */
  #look(): void {
    if (this.#lookScheduled) return;
    this.#lookScheduled = true;
    queueMicrotask(() => {
      this.#lookScheduled = false;
      if (this.#large?.advance()) this.#large = undefined;
      this.outbound.flush();
      if (this.#ending && this.#waiting === 0) this.#events.finished();
      else this.#events.unblocked();
    });
  }
}

const NO_LOAN: Loan = { hold: () => undefined, release: () => undefined };
