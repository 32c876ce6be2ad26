import { CMD, REQUEST_MAGIC } from './constants.ts';
import { REQUEST_AT, REQUEST_BYTES } from './frames.ts';

export interface RequestSink {
  /** True: no further request now. Asked before each. */
  readonly blocked: boolean;
  /** A whole header stands at `view[at]`; borrowed until this returns. */
  request(view: DataView, at: number): void;
  /** Something else stands where a request should; nothing is passed on after this. */
  malformed(): void;
  /** The next bytes of the current WRITE's payload, at least one; borrowed as the chunk is. */
  payload(bytes: Uint8Array, last: boolean): void;
}

/** Cuts received chunks into headers and payload pieces, in place: no copy, no object a request. */
export class Inbound {
  readonly #held = new DataView(new ArrayBuffer(REQUEST_BYTES));
  #heldLength = 0;
  #payloadLeft = 0;
  #malformed = false;

  /** Passes on `chunk` from byte `at`; returns where it stopped: at the end, or blocked. */
  push(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    const end = chunk.length;
    while (at < end) {
      if (this.#malformed) return end;
      if (this.#payloadLeft > 0) at += this.#passPayload(chunk, at, sink);
      else if (sink.blocked) return at;
      else if (this.#heldLength > 0 || end - at < REQUEST_BYTES) at += this.#hold(chunk, at, sink);
      else at += this.#begin(view, at, sink);
    }
    return at;
  }

  #begin(view: DataView, at: number, sink: RequestSink): number {
    if (view.getUint32(at) !== REQUEST_MAGIC) {
      this.#malformed = true;
      sink.malformed();
      return REQUEST_BYTES;
    }
    if (view.getUint16(at + REQUEST_AT.type) === CMD.WRITE) {
      this.#payloadLeft = view.getUint32(at + REQUEST_AT.length);
    }
    sink.request(view, at);
    return REQUEST_BYTES;
  }

  #passPayload(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const piece = chunk.subarray(at, at + this.#payloadLeft);
    this.#payloadLeft -= piece.length;
    sink.payload(piece, this.#payloadLeft === 0);
    return piece.length;
  }

  #hold(chunk: Uint8Array, at: number, sink: RequestSink): number {
    const piece = chunk.subarray(at, at + REQUEST_BYTES - this.#heldLength);
    new Uint8Array(this.#held.buffer).set(piece, this.#heldLength);
    this.#heldLength += piece.length;
    if (this.#heldLength < REQUEST_BYTES) return piece.length;
    this.#heldLength = 0;
    this.#begin(this.#held, 0, sink);
    return piece.length;
  }
}
