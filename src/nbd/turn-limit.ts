import type { Clock } from '../contracts/seams.ts';

/**
 * How long the requests of one connection hold the event loop. A few kilobytes can ask for much, and
 * what settles at once goes on in microtasks, between which nobody else has his turn: so after some
 * milliseconds of work nothing more is begun until a real turn has passed.
 *
 * Work at a chunk counts, and the time between two looks at the same chunk, in which its requests may
 * have gone on. The clock is read where the stopwatch reads it anyway, and by `look`.
 */
export class TurnLimit {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #passed: () => void;
  #usedMs = 0;
  #sinceMs = 0;
  #over = false;

  /** @param passed  called in a later turn, when work may go on */
  constructor(clock: Clock, limitMs: number, passed: () => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#passed = passed;
  }

  /** True: nothing more in this turn. */
  get over(): boolean {
    return this.#over;
  }

  /** Work at a chunk begins. @param again  it was not the first time: it had to stop before */
  begin(nowMs: number, again: boolean): void {
    if (again) this.#use(nowMs);
    else this.#sinceMs = nowMs;
  }
  /** To be called now and then during the work. */
  look(): void {
    if (!this.#over) this.#use(this.#clock.monotonicMs());
  }
  /** It has ended, or has to stop. */
  end(nowMs: number): void {
    this.#use(nowMs);
  }

  #use(nowMs: number): void {
    this.#usedMs += nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
    if (this.#over || this.#usedMs < this.#limitMs) return;
    this.#over = true;
    void this.#rest();
  }
  async #rest(): Promise<void> {
    await this.#clock.yield();
    this.#over = false;
    this.#usedMs = 0;
    this.#sinceMs = this.#clock.monotonicMs();
    this.#passed();
  }
}
