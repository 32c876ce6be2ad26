import type { Facts } from '../base/errors.ts';
import type { Log, LogLevel } from '../base/log.ts';
import type { Clock } from '../contracts/seams.ts';

/**
 * A log for what strangers can make happen as often as they like: of each event so many lines in a
 * while, the others are only counted. The next line that is written says how many were `unsaid`.
 */
export class QuietLog implements Log {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #linesMax: number;
  readonly #windowMs: number;
  readonly #said = new Map<string, { untilMs: number; lines: number; unsaid: number }>();

  /** @param linesMax  of each event, within `windowMs` of the first of them */
  constructor(log: Log, clock: Clock, linesMax: number, windowMs: number) {
    this.#log = log;
    this.#clock = clock;
    this.#linesMax = linesMax;
    this.#windowMs = windowMs;
  }

  event(level: LogLevel, name: string, facts: Facts = {}): void {
    const nowMs = this.#clock.monotonicMs();
    let said = this.#said.get(name);
    if (said === undefined || nowMs >= said.untilMs) {
      const unsaid = said?.unsaid ?? 0;
      said = { untilMs: nowMs + this.#windowMs, lines: 0, unsaid };
      this.#said.set(name, said);
    }
    if (said.lines >= this.#linesMax) {
      said.unsaid += 1;
      return;
    }
    said.lines += 1;
    const { unsaid } = said;
    said.unsaid = 0;
    this.#log.event(level, name, unsaid > 0 ? { ...facts, unsaid } : facts);
  }
}
