/** A place where so many meet, and from which they go on together; if one fails, none does. */
export class Rendezvous {
  readonly #met = Promise.withResolvers<void>();
  readonly #last: () => void;
  #missing: number;

  /** @param last  called once all are there, before any goes on */
  constructor(count: number, last: () => void = () => undefined) {
    this.#missing = count;
    this.#last = last;
    this.#met.promise.catch(() => undefined); // whoever waits is told
    this.#look();
  }

  /** Settles when all are there. */
  meet(): Promise<void> {
    this.#missing -= 1;
    this.#look();
    return this.#met.promise;
  }

  /** Whoever waits here, or comes, fails with this; without effect once all have met. */
  fail(reason: unknown): void {
    this.#met.reject(reason);
  }

  #look(): void {
    if (this.#missing !== 0) return;
    this.#last();
    this.#met.resolve();
  }
}
