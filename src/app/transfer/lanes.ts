import type { Call } from '../../contracts/call.ts';

/**
 * Work of which at most so many parts are under way. The first failure, or an abort, ends it: nothing
 * more is started, and whoever waits for anything here is told. Disposing waits for what is under way.
 */
export class Lanes implements AsyncDisposable {
  readonly #lanesMax: number;
  readonly #underWay = new Set<Promise<void>>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.#failed.reject(this.#signal?.reason);

  constructor(lanesMax: number, { signal }: Call = {}) {
    this.#lanesMax = lanesMax;
    this.#failed.promise.catch(() => undefined); // told to whoever waits
    this.#signal = signal;
    if (signal?.aborted === true) this.#abort();
    else signal?.addEventListener('abort', this.#abort, { once: true });
  }

  /** What `promise` gives, or the failure, if that comes first. */
  orFailure<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([this.#failed.promise, promise]);
  }

  /** Settles when `work` has begun. */
  async start(work: () => Promise<void>): Promise<void> {
    while (this.#underWay.size >= this.#lanesMax) {
      await this.orFailure(Promise.race(this.#underWay));
    }
    const lane: Promise<void> = work().then(
      () => void this.#underWay.delete(lane),
      (error: unknown) => {
        this.#underWay.delete(lane);
        this.#failed.reject(error);
      },
    );
    this.#underWay.add(lane);
  }

  /** Settles when everything has been done. */
  async ended(): Promise<void> {
    await this.orFailure(Promise.all(this.#underWay));
    await this.orFailure(Promise.resolve());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#abort);
    await Promise.all(this.#underWay);
  }
}
