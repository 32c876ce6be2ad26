import { assert } from './assert.ts';

/**
 * Readers together, writers alone, first come first served. `idle` and `open to readers` can be
 * asked without waiting, so that whoever finds the gate free passes without a promise.
 */
export class Gate {
  #readers = 0;
  #writing = false;
  readonly #waiting: { exclusive: boolean; enter: () => void }[] = [];

  get idle(): boolean {
    return this.#readers === 0 && !this.#writing && this.#waiting.length === 0;
  }

  /** A reader may pass now without overtaking anybody. */
  get readable(): boolean {
    return !this.#writing && this.#waiting.length === 0;
  }

  /** Settles when inside; whoever entered must `leave`. */
  enter(exclusive: boolean): Promise<void> {
    return new Promise((enter) => {
      this.#waiting.push({ exclusive, enter });
      this.#admit();
    });
  }

  leave(exclusive: boolean): void {
    if (exclusive) {
      assert(this.#writing, 'who leaves had entered');
      this.#writing = false;
    } else {
      assert(this.#readers > 0, 'who leaves had entered');
      this.#readers -= 1;
    }
    this.#admit();
  }

  /** Runs `work` inside. */
  async pass<T>(exclusive: boolean, work: () => Promise<T> | T): Promise<T> {
    await this.enter(exclusive);
    try {
      return await work();
    } finally {
      this.leave(exclusive);
    }
  }

  #admit(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#writing || (first.exclusive && this.#readers > 0)) return;
      this.#waiting.shift();
      if (first.exclusive) this.#writing = true;
      else this.#readers += 1;
      first.enter();
    }
  }
}
