import { createHash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { Random } from '../contracts/seams.ts';
import { EventQueue } from './event-queue.ts';
import { SimClock, type Timeline } from './sim-clock.ts';
import { simRandom } from './sim-random.ts';

/** After so many events a run is taken to go round in circles. */
const EVENTS_MAX = 5_000_000;

/**
 * A world in which nothing happens but planned events, one after the other, each only after all
 * promises that the one before could settle have settled. All chance comes from one seed, so a seed
 * is a run: the same again, whenever and wherever.
 */
export class World implements Timeline {
  readonly random: Random;
  readonly clock: SimClock;
  readonly #queue = new EventQueue();
  readonly #history = createHash('sha256');
  readonly #waiting = new Set<{ readonly name: string }>();
  readonly #failures: unknown[] = [];
  #nowMs = 0;
  #planned = 0;

  constructor(seed: number) {
    this.random = simRandom(seed);
    this.clock = new SimClock(this);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Equal for two runs in which the same events came in the same order at the same times. */
  get digest(): string {
    return this.#history.copy().digest('hex');
  }

  plan(name: string, delayMs: number, act: () => void): () => void {
    assert(delayMs >= 0, 'events lie in the future');
    const event = { atMs: this.#nowMs + delayMs, order: this.#planned, name, act, off: false };
    this.#planned += 1;
    this.#queue.add(event);
    return () => {
      event.off = true;
    };
  }

  /** Puts something into the digest that two equal runs must agree on. */
  note(what: string): void {
    this.#history.update(`${this.#nowMs} ${what}\n`);
  }

  /** Something that goes on beside what `run` waits for; if it fails, the run does. */
  start(name: string, task: () => Promise<void>): void {
    const entry = { name };
    this.#waiting.add(entry);
    task().then(
      () => this.#waiting.delete(entry),
      (error: unknown) => this.#failures.push(error),
    );
  }

  /**
   * Events happen until `main` settles; later ones stay planned, for another run.
   * @throws StalledWorld if nothing is left to happen before that
   */
  async run<T>(name: string, main: () => Promise<T>): Promise<T> {
    const result: T[] = [];
    this.start(name, async () => {
      result.push(await main());
    });
    for (let events = 0; ; events += 1) {
      await allSettled();
      if (this.#failures.length > 0) throw this.#failures[0];
      if (result.length > 0) return result[0]!;
      if (events === EVENTS_MAX) throw new StalledWorld('there is no end of events', this.#names());
      if (!this.#step()) throw new StalledWorld('nothing is left to happen', this.#names());
    }
  }

  #step(): boolean {
    let event = this.#queue.take();
    while (event?.off) event = this.#queue.take();
    if (!event) return false;
    this.#nowMs = event.atMs;
    this.note(event.name);
    event.act();
    return true;
  }

  #names(): string[] {
    return [...this.#waiting].map(({ name }) => name);
  }
}

/** The event loop turns only when every promise that can settle has done so. */
function allSettled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A run that would not end; `waiting` names what has not settled. */
export class StalledWorld extends Error {
  override readonly name = 'StalledWorld';
  readonly waiting: readonly string[];

  constructor(why: string, waiting: readonly string[]) {
    super(`${why}, and these still wait: ${waiting.join(', ')}`);
    this.waiting = waiting;
  }
}
