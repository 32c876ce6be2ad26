import { type Facts, plainFacts } from '../base/errors.ts';
import type { Log, LogLevel } from '../base/log.ts';
import { KiB } from '../base/units.ts';
import type { Clock } from '../contracts/seams.ts';
import type { EventCount, EventView } from './admin-views.ts';

export const EVENT_LIMITS = {
  /** Kept for whoever asks what has happened before; the oldest go first. */
  keptEvents: 2000,
  keptCharacters: 512 * KiB,
  /** Of one event: what is longer is told without its facts. */
  eventCharacters: 16 * KiB,
};
export type EventLimits = Readonly<typeof EVENT_LIMITS>;

/** Somebody who listens. */
export interface Subscriber {
  /** For the log. */
  readonly name: string;
  /**
   * The next event, as one line of JSON. False: he has not taken what he was told before, and is
   * told no more. Must not throw, and is no place for another event.
   */
  told(line: string): boolean;
}

/** An event as it is kept. */
interface Kept {
  readonly seq: number;
  readonly line: string;
}

/**
 * Tells the log's events to whoever listens, besides the log: those of level `info` and above, in
 * order, numbered from 1 on. Takes the place of the log.
 */
export class Events implements Log {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #limits: EventLimits;
  readonly #kept: Kept[] = [];
  #keptCharacters = 0;
  #seq = 0;
  /** By name and level. The program has some dozens of names. */
  readonly #counts = new Map<string, { event: string; level: EventView['level']; count: number }>();
  readonly #subscribers = new Set<Subscriber>();

  constructor(log: Log, clock: Clock, limits: EventLimits = EVENT_LIMITS) {
    this.#log = log;
    this.#clock = clock;
    this.#limits = limits;
  }

  event(level: LogLevel, name: string, facts: Facts = {}): void {
    this.#log.event(level, name, facts);
    if (level === 'debug') return;
    this.#seq += 1;
    this.#tally(level, name);
    const kept = { seq: this.#seq, line: this.#lineOf(level, name, facts) };
    this.#keep(kept);
    this.#tell(kept.line);
  }

  /**
   * Tells `subscriber` what happens from now on, and before that what is kept of the events after
   * number `after`; if some of those are gone, first how many.
   * @param after  absent: nothing that was before
   * @returns ends it; to call it again does nothing
   */
  subscribe(subscriber: Subscriber, after = this.#seq): () => void {
    const old = this.#kept.filter(({ seq }) => seq > after);
    const missing = this.#seq - Math.min(after, this.#seq) - old.length;
    const lost = missing > 0 ? [this.#leftOut(after, missing)] : [];
    const lines = [...lost, ...old.map(({ line }) => line)];
    if (lines.every((line) => subscriber.told(line))) this.#subscribers.add(subscriber);
    else this.#dropped(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }

  /** How many there were of each. */
  counts(): EventCount[] {
    return [...this.#counts.values()].map((counted) => ({ ...counted }));
  }

  #tally(level: EventView['level'], event: string): void {
    const key = `${level} ${event}`;
    const counted = this.#counts.get(key) ?? { event, level, count: 0 };
    counted.count += 1;
    this.#counts.set(key, counted);
  }

  #lineOf(level: EventView['level'], event: string, facts: Facts): string {
    const view: EventView = {
      ...{ seq: this.#seq, timeMs: this.#clock.wallMs(), level, event },
      facts: plainFacts(facts),
    };
    const line = JSON.stringify(view);
    if (line.length <= this.#limits.eventCharacters) return line;
    return JSON.stringify({ ...view, facts: { tooLongCharacters: line.length } });
  }

  #leftOut(after: number, count: number): string {
    const view: EventView = {
      ...{ seq: after + count, timeMs: this.#clock.wallMs() },
      ...{ level: 'warn', event: 'events.left-out', facts: { count } },
    };
    return JSON.stringify(view);
  }

  #keep(kept: Kept): void {
    this.#kept.push(kept);
    this.#keptCharacters += kept.line.length;
    const { keptEvents, keptCharacters } = this.#limits;
    while (this.#kept.length > keptEvents || this.#keptCharacters > keptCharacters) {
      this.#keptCharacters -= this.#kept.shift()?.line.length ?? 0;
    }
  }

  #tell(line: string): void {
    const slow = [...this.#subscribers].filter((subscriber) => !subscriber.told(line));
    for (const subscriber of slow) this.#subscribers.delete(subscriber);
    for (const subscriber of slow) this.#dropped(subscriber);
  }

  #dropped({ name }: Subscriber): void {
    this.event('warn', 'events.subscriber-dropped', { subscriber: name });
  }
}
