import type { Call } from '../contracts/call.ts';
import type { Clock } from '../contracts/seams.ts';
import type { World } from './world.ts';

/** Time that passes only when the world has nothing else to do. */
export class SimClock implements Clock {
  readonly #world: World;
  /** What the wall shows when the world begins: 2026-01-01, and then whatever `setWall` says. */
  #wallStartMs = Date.UTC(2026, 0, 1);

  constructor(world: World) {
    this.#world = world;
  }

  wallMs(): number {
    return this.#wallStartMs + Math.floor(this.#world.nowMs);
  }
  monotonicMs(): number {
    return this.#world.nowMs;
  }
  /** Somebody sets the clock on the wall, forwards or backwards. */
  jumpWall(byMs: number): void {
    this.#wallStartMs += byMs;
  }
  async sleep(delayMs: number, { signal }: Call = {}): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const cancel = this.#world.plan('sleep', delayMs, resolve);
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
      this.#world.plan('yield', 0, resolve);
    });
  }
}
