import { formatBytes, formatDuration, widthOf } from './output.ts';

/** What takes less time is over before anybody wonders. */
const SHOWN_AFTER_MS = 1000;
/** How often the line on a terminal changes. */
const TICK_MS = 200;
/** The rate is that of this time: it follows what the disk does now, and does not jump. */
const RATE_WINDOW_MS = 10_000;
const BAR_COLUMNS_MAX = 30;
const BAR_COLUMNS_MIN = 8;
/** Moves to the beginning of the line and empties it. */
const EMPTY_LINE = '\r\u001b[K';

/** Where progress is shown: standard error, because it is no part of the result. */
export interface ProgressStream {
  /** Whether somebody watches: then one line shows how far it is, and changes in place. */
  readonly watched: boolean;
  /** How wide the line may be now. */
  readonly columns: () => number;
  readonly write: (text: string) => void;
}

export interface ProgressOptions {
  readonly stream: ProgressStream;
  /** Milliseconds that never run back. */
  readonly nowMs: () => number;
  /** What is done, as in `importing demo`. */
  readonly label: string;
  /** An amount as text; bytes if absent. A rate is an amount per second. */
  readonly format?: (amount: number) => string;
}

/**
 * How far something long is. On a terminal: a line with a bar, the rate and the time left, once it
 * has taken a second; elsewhere nothing until the end. At the end: one line with amount, time and
 * rate, if it took a second. Disposing it before the end leaves no trace, because an error follows.
 */
export class Progress implements Disposable {
  readonly #options: ProgressOptions;
  readonly #beganMs: number;
  /** What was done when, oldest first, over the window of the rate; never empty. */
  readonly #samples: { readonly ms: number; readonly amount: number }[];
  #amount = 0;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#beganMs = options.nowMs();
    this.#samples = [{ ms: this.#beganMs, amount: 0 }];
  }

  /** So much is done of so much; undefined while nobody knows of how much. Cheap: call it often. */
  update(amount: number, total: number | undefined): void {
    this.#amount = amount;
    const { stream, nowMs, label, format = formatBytes } = this.#options;
    if (!stream.watched) return;
    const now = nowMs();
    if (now - this.#drawnMs < TICK_MS) return;
    this.#drawnMs = now;
    const rate = this.#rate(now);
    if (now - this.#beganMs < SHOWN_AFTER_MS) return;
    this.#drawn = true;
    const line = progressLine({ label, amount, total, rate, format }, stream.columns());
    stream.write(EMPTY_LINE + line);
  }

  /** All of it is done. */
  done(): void {
    const { stream, nowMs, label, format = formatBytes } = this.#options;
    const tookMs = nowMs() - this.#beganMs;
    this[Symbol.dispose]();
    if (tookMs < SHOWN_AFTER_MS) return;
    const rate = format((this.#amount / tookMs) * 1000);
    stream.write(`${label}: ${format(this.#amount)} in ${formatDuration(tookMs)}, ${rate}/s\n`);
  }

  [Symbol.dispose](): void {
    if (this.#drawn) this.#options.stream.write(EMPTY_LINE);
    this.#drawn = false;
  }

  /** Amount per second, of late. */
  #rate(now: number): number {
    const samples = this.#samples;
    while ((samples[1]?.ms ?? now) <= now - RATE_WINDOW_MS) samples.shift();
    samples.push({ ms: now, amount: this.#amount });
    const first = samples[0] ?? { ms: now, amount: 0 };
    return first.ms === now ? 0 : ((this.#amount - first.amount) / (now - first.ms)) * 1000;
  }
}

export interface ProgressFacts {
  readonly label: string;
  readonly amount: number;
  readonly total: number | undefined;
  /** Amount per second. */
  readonly rate: number;
  readonly format: (amount: number) => string;
}

/** One line without its end, with a bar where there is room for one; narrow ones lose the label. */
export function progressLine(facts: ProgressFacts, columns: number): string {
  const { label, amount, total, rate, format } = facts;
  const share = total === undefined || total === 0 ? undefined : Math.min(1, amount / total);
  const left = total === undefined || rate <= 0 ? undefined : Math.max(0, total - amount) / rate;
  const said = [
    ...(share === undefined ? [] : [`${Math.floor(share * 100)} %`]),
    total === undefined ? format(amount) : `${format(amount)} of ${format(total)}`,
    `${format(rate)}/s`,
    ...(left === undefined ? [] : [`${formatDuration(left * 1000)} left`]),
  ].join('  ');
  // The last column stays free: some terminals begin a new line once it is written.
  const room = columns - 1 - widthOf(label) - 2 - widthOf(said);
  const bar = Math.min(BAR_COLUMNS_MAX, room - 4);
  if (share === undefined || bar < BAR_COLUMNS_MIN) {
    return room >= 0 ? `${label}  ${said}` : said.slice(0, Math.max(0, columns - 1));
  }
  const full = Math.round(share * bar);
  return `${label}  [${'#'.repeat(full)}${'-'.repeat(bar - full)}]  ${said}`;
}
