import type { Call } from '../../src/contracts/call.ts';
import type { Clock } from '../../src/contracts/seams.ts';

/** Time that passes when a test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_000;
  readonly #sleepers = new Set<{ readonly atMs: number; wake(): void }>();

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.#nowMs;
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  sleep(delayMs: number, { signal }: Call = {}): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { atMs: this.#nowMs + delayMs, wake: resolve };
    this.#sleepers.add(sleeper);
    const abort = () => {
      this.#sleepers.delete(sleeper);
      reject(signal?.reason);
    };
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    return promise;
  }
  yield(): Promise<void> {
    return new Promise((done) => setImmediate(done));
  }

  /** `ms` are over before anybody has his turn: somebody was at work. */
  work(ms: number): void {
    this.#nowMs += ms;
  }

  /** Lets `ms` pass, in steps, so that whoever sleeps again in between wakes in time. */
  async pass(ms: number, stepMs = 500): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.#nowMs += Math.min(stepMs, left);
      for (const sleeper of this.#sleepers) {
        if (sleeper.atMs > this.#nowMs) continue;
        this.#sleepers.delete(sleeper);
        sleeper.wake();
      }
      await this.yield();
      await this.yield();
    }
  }
}
