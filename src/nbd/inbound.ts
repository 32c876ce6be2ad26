import { REQUEST_FORM } from './frames.ts';

export interface RequestSink {
  /** True: no further request now. Asked before each. */
  readonly blocked: boolean;
  /**
   * A whole header stands at `view[at]`; borrowed until this returns.
   * @returns how many bytes of payload follow it
   */
  request(view: DataView, at: number): number;
  /** Something else stands where a request should; nothing is passed on after this. */
  malformed(): void;
  /** The next bytes of the current payload, at least one; borrowed as the chunk is. */
  payload(bytes: Uint8Array, last: boolean): void;
}

/** Cuts received chunks into headers and payload pieces, in place: no copy, no object a request. */
export class Inbound {
  readonly #magic: number;
  readonly #headerBytes: number;
  readonly #held = new DataView(new ArrayBuffer(REQUEST_FORM.extended.bytes));
  #heldLength = 0;
  #payloadLeft = 0;
  #malformed = false;

  /** @param extended  of the two forms of headers this one was agreed; the other is malformed */
  constructor(extended: boolean) {
    const form = extended ? REQUEST_FORM.extended : REQUEST_FORM.compact;
    this.#magic = form.magic;
    this.#headerBytes = form.bytes;
  }

  /** Passes on `chunk` from byte `at`; returns where it stopped: at the end, or blocked. */
  push(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    const headerBytes = this.#headerBytes;
    const end = chunk.length;
    while (at < end) {
      if (this.#malformed) return end;
      if (this.#payloadLeft > 0) at += this.#passPayload(chunk, at, sink);
      else if (sink.blocked) return at;
      else if (this.#heldLength > 0 || end - at < headerBytes) at += this.#hold(chunk, at, sink);
      else {
        this.#begin(view, at, sink);
        at += headerBytes;
      }
    }
    return at;
  }

  #begin(view: DataView, at: number, sink: RequestSink): void {
    if (view.getUint32(at) !== this.#magic) {
      this.#malformed = true;
      sink.malformed();
      return;
    }
    this.#payloadLeft = sink.request(view, at);
  }

  #passPayload(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const piece = chunk.subarray(at, at + this.#payloadLeft);
    this.#payloadLeft -= piece.length;
    sink.payload(piece, this.#payloadLeft === 0);
    return piece.length;
  }

  #hold(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const piece = chunk.subarray(at, at + this.#headerBytes - this.#heldLength);
    new Uint8Array(this.#held.buffer).set(piece, this.#heldLength);
    this.#heldLength += piece.length;
    if (this.#heldLength < this.#headerBytes) return piece.length;
    this.#heldLength = 0;
    this.#begin(this.#held, 0, sink);
    return piece.length;
  }
}
