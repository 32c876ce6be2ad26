/** Most options are no longer. */
const SMALL_BYTES = 256;

/** Turns chunks of any size into runs of asked lengths; for the handshake, where nothing is hot. */
export class Assembler {
  #held = new Uint8Array(SMALL_BYTES);
  #heldLength = 0;

  /**
   * The next `wanted` bytes, borrowed until the next call, or undefined if `chunk` from `at` on has
   * too few: then they are kept. `used` says how many of the chunk's bytes were taken.
   */
  take(
    wanted: number,
    chunk: Uint8Array,
    at: number,
  ): { run: Uint8Array | undefined; used: number } {
    const available = chunk.length - at;
    if (this.#heldLength === 0 && available >= wanted) {
      return { run: chunk.subarray(at, at + wanted), used: wanted };
    }
    const used = Math.min(wanted - this.#heldLength, available);
    this.#keep(chunk.subarray(at, at + used), wanted);
    if (this.#heldLength < wanted) return { run: undefined, used };
    const run = this.#held.subarray(0, wanted);
    this.#heldLength = 0;
    return { run, used };
  }

  /** How much memory it has after `take` of `wanted` bytes, of which so many are there. */
  bytesAfter(wanted: number, available: number): number {
    if (this.#heldLength === 0 && available >= wanted) return this.#held.length;
    return this.#room(Math.min(wanted, this.#heldLength + available), wanted);
  }

  /** Gives large memory back; what was kept is lost. */
  forget(): void {
    this.#heldLength = 0;
    if (this.#held.length > SMALL_BYTES) this.#held = new Uint8Array(SMALL_BYTES);
  }

  /** Memory grows with what arrived, never with what was announced. */
  #keep(bytes: Uint8Array, wanted: number): void {
    const length = this.#heldLength + bytes.length;
    if (length > this.#held.length) {
      const larger = new Uint8Array(this.#room(length, wanted));
      larger.set(this.#held.subarray(0, this.#heldLength));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#heldLength);
    this.#heldLength = length;
  }

  #room(length: number, wanted: number): number {
    if (length <= this.#held.length) return this.#held.length;
    return Math.max(length, Math.min(wanted, 2 * this.#held.length));
  }
}
