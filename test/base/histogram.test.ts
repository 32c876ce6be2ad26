import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  boundUs,
  countUpTo,
  type Durations,
  Histogram,
  NO_DURATIONS,
  quantileMs,
  since,
  together,
} from '../../src/base/histogram.ts';

const of = (...durationsMs: number[]): Durations => {
  const histogram = new Histogram();
  for (const durationMs of durationsMs) histogram.add(durationMs);
  return histogram.snapshot();
};
/** Up to twice the last bound. */
const duration = fc.double({ min: 0, max: 268_000, noNaN: true });
const durations = fc.array(duration, { minLength: 1, maxLength: 200 });

describe('a histogram', () => {
  test('puts each duration into the one bucket between whose bounds it lies', () => {
    fc.assert(
      fc.property(duration, (durationMs) => {
        const { counts } = of(durationMs);
        const index = counts.length - 1;
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1);
        const us = durationMs * 1000;
        expect(us).toBeLessThanOrEqual(boundUs(index));
        if (index > 0) expect(us).toBeGreaterThan(boundUs(index - 1));
      }),
    );
  });

  test('has bounds that grow by a quarter at most, up to 134 s', () => {
    let index = 4;
    for (; boundUs(index) !== Number.POSITIVE_INFINITY; index += 1) {
      const growth = boundUs(index) / boundUs(index - 1);
      expect(growth).toBeGreaterThan(1);
      expect(growth).toBeLessThanOrEqual(1.25);
    }
    expect(boundUs(index - 1)).toBe(2 ** 27);
  });

  test('a bound belongs to the bucket below it, as Prometheus counts', () => {
    for (let power = 2; power <= 27; power += 1) {
      const atMs = 2 ** power / 1000;
      expect(countUpTo(of(atMs), 2 ** power)).toBe(1);
      expect(countUpTo(of(atMs * 1.001), 2 ** power)).toBe(0);
    }
  });

  test('counts a chunk of requests at once', () => {
    const histogram = new Histogram();
    histogram.add(2, 30);
    histogram.add(4);
    expect(histogram.snapshot()).toMatchObject({ count: 31, sumMs: 64 });
    expect(histogram.snapshot().counts.filter((count) => count > 0)).toEqual([30, 1]);
  });

  test('a snapshot stays as it was', () => {
    const histogram = new Histogram();
    histogram.add(1);
    const before = histogram.snapshot();
    histogram.add(1);
    expect(before.count).toBe(1);
    expect(since(before, histogram.snapshot())).toEqual(before);
  });

  test('of a histogram that began anew everything is new', () => {
    expect(since(of(1, 1, 1), of(5))).toEqual(of(5));
    expect(since(of(5), NO_DURATIONS)).toEqual(NO_DURATIONS);
  });
});

describe('quantiles', () => {
  test('are off by a quarter at most, or by a microsecond', () => {
    fc.assert(
      fc.property(durations, fc.double({ min: 0.01, max: 1, noNaN: true }), (all, share) => {
        const sorted = all.toSorted((a, b) => a - b);
        const exactMs = Math.min(sorted[Math.ceil(share * all.length) - 1]!, 2 ** 27 / 1000);
        const readMs = quantileMs(of(...all), share)!;
        expect(Math.abs(readMs - exactMs)).toBeLessThanOrEqual(exactMs * 0.25 + 0.001);
      }),
    );
  });

  test('of nothing there are none', () => {
    expect(quantileMs(NO_DURATIONS, 0.5)).toBeUndefined();
    expect(quantileMs(together([]), 0.5)).toBeUndefined();
  });

  test('of several histograms together are those of all their durations', () => {
    fc.assert(
      fc.property(durations, durations, (some, others) => {
        const all = of(...some, ...others);
        const joined = together([of(...some), of(...others)]);
        expect(joined.counts).toEqual(all.counts);
        expect(joined.count).toBe(all.count);
        expect(joined.sumMs).toBeCloseTo(all.sumMs, 3);
      }),
    );
  });
});
