import { CMD, CMD_FLAG } from './constants.ts';
import { REQUEST_AT, type Repeated } from './frames.ts';

/** When the requests of one chunk came, and when they were begun: one for all of them that wait. */
export interface Turn {
  readonly receivedMs: number;
  /** Later than received only where the connection had too much under way. */
  readonly begunMs: number;
}

/** What is kept of a request until it is answered. */
export interface Request extends Repeated {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** When it came and was begun. */
  readonly turn: Turn;
  /** When the last of its payload came, if that was in another chunk. */
  arrived: Turn | undefined;
}

/** What a reply repeats, and what decides how it looks. */
export type Asked = Pick<Request, keyof Repeated | 'type' | 'flags'>;

/**
 * The request whose header came last. One for each connection, overwritten by the next header: so a
 * request costs no object. What outlives the call in which it arrived takes it `kept`; a payload
 * need not, it is over before the next header.
 */
export class Head implements Asked {
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  type = 0;
  flags = 0;
  /** From 2^53 on not exact, but then above every size that we serve. Of `length` the same. */
  offset = 0;
  length = 0;
  readonly #extended: boolean;

  /** @param extended  headers have 64 bits for the length ("Extended headers") */
  constructor(extended: boolean) {
    this.#extended = extended;
  }

  read(view: DataView, at: number): void {
    this.flags = view.getUint16(at + REQUEST_AT.flags);
    this.type = view.getUint16(at + REQUEST_AT.type);
    // Signed: a field holds these without a box.
    this.cookieHigh = view.getInt32(at + REQUEST_AT.cookie);
    this.cookieLow = view.getInt32(at + REQUEST_AT.cookie + 4);
    this.offsetHigh = view.getInt32(at + REQUEST_AT.offset);
    this.offsetLow = view.getInt32(at + REQUEST_AT.offset + 4);
    this.offset = number64(view, at + REQUEST_AT.offset);
    const where = at + REQUEST_AT.length;
    this.length = this.#extended ? number64(view, where) : view.getUint32(where);
  }

  /**
   * Payload follows, and this is not a WRITE: `length` is that of the payload. A WRITE has its
   * payload with or without the flag, which it should have in the extended form: QEMU 10 does not.
   */
  get hasExtraPayload(): boolean {
    const flagged = (this.flags & CMD_FLAG.PAYLOAD_LEN) !== 0;
    return this.#extended && flagged && this.type !== CMD.WRITE;
  }

  kept(turn: Turn): Request {
    const { cookieHigh, cookieLow, offsetHigh, offsetLow, type, flags, offset, length } = this;
    const where = { offset, length, turn, arrived: undefined };
    return { cookieHigh, cookieLow, offsetHigh, offsetLow, type, flags, ...where };
  }
}

function number64(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}
