import type { Call } from '../contracts/call.ts';
import type { Clock } from '../contracts/seams.ts';

/** Where moments come from, and what is to happen at them. */
export interface Timeline {
  readonly nowMs: number;
  /** `act` is to happen in `delayMs`, called `name` in the digest. Gives a way to call it off. */
  plan(name: string, delayMs: number, act: () => void): () => void;
}

/** Time that passes only when the world has nothing else to do. */
export class SimClock implements Clock {
  readonly #timeline: Timeline;
  /** What the wall shows when the world begins. */
  #wallStartMs = Date.UTC(2026, 0, 1);

  constructor(timeline: Timeline) {
    this.#timeline = timeline;
  }

  wallMs(): number {
    return this.#wallStartMs + Math.floor(this.#timeline.nowMs);
  }
  monotonicMs(): number {
    return this.#timeline.nowMs;
  }
  /** Somebody sets the clock on the wall, forwards or backwards. */
  jumpWall(byMs: number): void {
    this.#wallStartMs += byMs;
  }
  async sleep(delayMs: number, { signal }: Call = {}): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const cancel = this.#timeline.plan('sleep', delayMs, resolve);
    const abort = () => {
      cancel();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }
  yield(): Promise<void> {
    return new Promise((resolve) => {
      this.#timeline.plan('yield', 0, resolve);
    });
  }
}
