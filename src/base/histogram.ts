/**
 * Durations counted in buckets: a quarter of an octave wide, from 1 µs to 2^27 µs (134 s), and one for
 * what took longer. So a quantile read from them is off by a quarter at most, and to add one costs
 * neither an object nor a logarithm.
 */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sumMs = 0;

  /** Counts `count` durations of `durationMs` each. */
  add(durationMs: number, count = 1): void {
    const index = bucketOf(durationMs);
    this.#counts[index] = (this.#counts[index] as number) + count;
    this.#count += count;
    this.#sumMs += durationMs * count;
  }

  /** What was counted so far; later additions do not change it. */
  snapshot(): Durations {
    let length = BUCKETS;
    while (length > 0 && this.#counts[length - 1] === 0) length -= 1;
    const counts = [...this.#counts.subarray(0, length)];
    return { count: this.#count, sumMs: this.#sumMs, counts };
  }
}

/** What a histogram holds, as JSON may carry it. */
export interface Durations {
  readonly count: number;
  readonly sumMs: number;
  /** By bucket; those behind the last one that is not 0 are left out. */
  readonly counts: readonly number[];
}

export const NO_DURATIONS: Durations = { count: 0, sumMs: 0, counts: [] };

/** Octaves of microseconds below the last bucket. */
const OCTAVES = 27;
const BUCKETS = (OCTAVES - 1) * 4 + 1;
const LAST_US = 2 ** OCTAVES;

/** A bucket holds what is longer than the bound of the one before, up to its own bound. */
function bucketOf(durationMs: number): number {
  const us = Math.ceil(durationMs * 1000) - 1;
  if (us < 4) return Math.max(us, 0);
  if (us >= LAST_US) return BUCKETS - 1;
  const octave = 31 - Math.clz32(us);
  return (octave - 1) * 4 + ((us >>> (octave - 2)) & 3);
}

/** The longest duration that bucket `index` holds, in microseconds. */
export function boundUs(index: number): number {
  if (index < 4) return index + 1;
  if (index >= BUCKETS - 1) return Number.POSITIVE_INFINITY;
  return (5 + (index & 3)) * 2 ** ((index >>> 2) - 1);
}

/** How many took at most `limitUs`, which is a power of two from 4 on. */
export function countUpTo({ counts }: Durations, limitUs: number): number {
  let count = 0;
  for (const [index, some] of counts.entries()) {
    if (boundUs(index) > limitUs) break;
    count += some;
  }
  return count;
}

/** What was added from `before` to `after`, two snapshots of one histogram. */
export function since(before: Durations, after: Durations): Durations {
  // A histogram that began anew: all of it is new.
  if (after.count < before.count) return after;
  return {
    count: after.count - before.count,
    sumMs: after.sumMs - before.sumMs,
    counts: after.counts.map((count, index) => count - (before.counts[index] ?? 0)),
  };
}

/** All of them as one. */
export function together(all: readonly Durations[]): Durations {
  const length = Math.max(0, ...all.map(({ counts }) => counts.length));
  return {
    count: all.reduce((sum, { count }) => sum + count, 0),
    sumMs: all.reduce((sum, { sumMs }) => sum + sumMs, 0),
    counts: Array.from({ length }, (_, index) =>
      all.reduce((sum, { counts }) => sum + (counts[index] ?? 0), 0),
    ),
  };
}

/**
 * The duration in milliseconds that `share` (0 to 1) of them do not exceed, as if those of a bucket
 * lay evenly in it; undefined if there are none. What is longer than every bucket counts as the last
 * bound.
 */
export function quantileMs({ count, counts }: Durations, share: number): number | undefined {
  if (count === 0) return undefined;
  const wanted = share * count;
  let below = 0;
  for (const [index, some] of counts.entries()) {
    if (some > 0 && below + some >= wanted) {
      const from = index === 0 ? 0 : boundUs(index - 1);
      const to = Math.min(boundUs(index), LAST_US);
      return (from + (to - from) * ((wanted - below) / some)) / 1000;
    }
    below += some;
  }
  return LAST_US / 1000;
}
