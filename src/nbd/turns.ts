import type { Clock } from '../contracts/seams.ts';

/**
 * Lets a few at a time do what costs much memory; the others wait in the order in which they came.
 * Whoever takes long has to leave only while somebody waits: so a crowd that never goes on keeps
 * nobody out for long, and where there is no crowd nobody is hurried.
 */
export class Turns<One> {
  readonly #atOnce: number;
  readonly #turnMs: number;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** Since when, the oldest first. */
  readonly #inside = new Map<One, number>();
  readonly #waiting = new Map<One, () => void>();

  constructor(atOnce: number, turnMs: number, clock: Pick<Clock, 'monotonicMs'>) {
    this.#atOnce = atOnce;
    this.#turnMs = turnMs;
    this.#clock = clock;
  }

  /** Nothing if its turn is now, else what settles when it is, or when it has left before. */
  enter(one: One): Promise<void> | undefined {
    if (this.#inside.size < this.#atOnce) {
      this.#inside.set(one, this.#clock.monotonicMs());
      return undefined;
    }
    return new Promise((begin) => this.#waiting.set(one, begin));
  }

  /** Its turn is over, or it waits no longer; nothing if it has left before. */
  leave(one: One): void {
    this.#waiting.get(one)?.();
    this.#waiting.delete(one);
    if (!this.#inside.delete(one)) return;
    for (const [next, begin] of this.#waiting) {
      this.#waiting.delete(next);
      this.#inside.set(next, this.#clock.monotonicMs());
      begin();
      break;
    }
  }

  /** Who has to leave now. */
  late(): One[] {
    const since = this.#clock.monotonicMs() - this.#turnMs;
    return [...this.#inside]
      .filter(([, begunMs]) => begunMs <= since)
      .slice(0, this.#waiting.size)
      .map(([one]) => one);
  }
}
