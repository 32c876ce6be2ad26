import { onRead, type ReceiveRooms } from './receive-buffer.ts';

/**
 * Joins small chunks to large ones: TLS gives a chunk for each of its records, 16 KiB at most, and
 * whoever writes them to a disk would write as many small pieces, all across its blocks. What comes
 * in one turn of the event loop is passed on together, at the end of that turn or when a room is full.
 */
export class Gathering {
  readonly #reader: ReturnType<typeof onRead>;
  readonly #mayPass: () => boolean;
  readonly #passed: (more: boolean) => void;
  #memory: Uint8Array;
  #filled = 0;
  #scheduled = false;

  /**
   * @param taken    gets what was gathered; false: no more now
   * @param mayPass  asked before that
   * @param passed   told after it, with what `taken` said
   */
  constructor(
    rooms: ReceiveRooms,
    taken: (chunk: Uint8Array) => boolean,
    mayPass: () => boolean,
    passed: (more: boolean) => void,
  ) {
    this.#reader = onRead(rooms, taken);
    this.#memory = this.#reader.buffer();
    this.#mayPass = mayPass;
    this.#passed = passed;
  }

  get waiting(): boolean {
    return this.#filled > 0;
  }

  /** Copies `chunk`. @returns how much of it: all, unless what is full may not be passed on */
  add(chunk: Uint8Array): number {
    let at = 0;
    while (at < chunk.length) {
      if (this.#filled === this.#memory.length && !this.pass()) return at;
      const part = chunk.subarray(at, at + this.#memory.length - this.#filled);
      this.#memory.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
    }
    this.schedule();
    return at;
  }

  /** Passes on what waits when this turn of the event loop is over. */
  schedule(): void {
    if (this.#scheduled || this.#filled === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.pass();
    });
  }

  /** Passes on what waits, now. @returns false if nothing more may come */
  pass(): boolean {
    if (this.#filled === 0 || !this.#mayPass()) return false;
    const length = this.#filled;
    this.#filled = 0;
    const more = this.#reader.callback(length, this.#memory);
    this.#memory = this.#reader.buffer() ?? this.#memory;
    this.#passed(more);
    return more;
  }
}
