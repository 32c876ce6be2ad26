/** Bytes in, bytes out, in order; what passes through is copied once on each side. */
export class ByteQueue {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }
  /** Copies `bytes`. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#parts.push(bytes.slice());
    this.#length += bytes.length;
  }
  /** The first `length` bytes, or all if there are fewer. */
  shift(length: number): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(Math.min(length, this.#length));
    for (let at = 0; at < taken.length; ) {
      const [first = new Uint8Array(0)] = this.#parts;
      const part = first.subarray(0, taken.length - at);
      taken.set(part, at);
      at += part.length;
      if (part.length === first.length) this.#parts.shift();
      else this.#parts[0] = first.subarray(part.length);
    }
    this.#length -= taken.length;
    return taken;
  }
}
