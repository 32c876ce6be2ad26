import type { Completion } from '../contracts/call.ts';

/**
 * Counts what has passed and is still under way, and can be slowed down and shut: then newcomers wait
 * until it is opened again. Costs a newcomer one look while it is open.
 */
export class Turnstile {
  #underWay = 0;
  #emptied: (() => void) | undefined;
  #opened: PromiseWithResolvers<void> | undefined;
  #pace: (() => Promise<void>) | undefined;
  #refusal: Error | undefined;
  readonly #leave = () => {
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#emptied?.();
  };

  /** A newcomer may go on at once, and only has to be tracked. */
  get isOpen(): boolean {
    return this.#opened === undefined && this.#pace === undefined && this.#refusal === undefined;
  }

  /** Runs `work` once it is open; settles as `work` does. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#pace !== undefined) await this.#pace();
    while (this.#opened !== undefined) await this.#opened.promise;
    if (this.#refusal !== undefined) throw this.#refusal;
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  /** For what began while it was open: it is under way until it settles. */
  track(completion: Completion): Completion {
    if (completion === undefined) return;
    this.#underWay += 1;
    completion.then(this.#leave, this.#leave);
    return completion;
  }

  /** Nobody else passes from now on; settles once all who have passed are through. */
  async shut(): Promise<void> {
    this.#opened = Promise.withResolvers<void>();
    if (this.#underWay > 0) {
      await new Promise<void>((emptied) => {
        this.#emptied = emptied;
      });
      this.#emptied = undefined;
    }
  }

  /** From now on each newcomer waits so long before it passes. */
  slow(pace: () => Promise<void>): void {
    this.#pace = pace;
  }

  /** As at first: neither shut nor slow. */
  open(): void {
    this.#pace = undefined;
    this.#opened?.resolve();
    this.#opened = undefined;
  }

  /** Nobody passes any more, for good: all are refused with this. */
  refuse(reason: Error): void {
    this.#refusal = reason;
  }
}
