import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KEEP_RULES, type KeepRules, retention } from '../../src/app/backup/retention.ts';

const NONE: KeepRules = { last: 0, daily: 0, weekly: 0, monthly: 0 };
const made = (...times: string[]) =>
  times.map((time) => ({ time, timeMs: Date.parse(`${time}Z`) }));

/** `TIME: rules` of each that stays, the newest first. */
function staying(times: readonly string[], rules: Partial<KeepRules>): string[] {
  return retention(made(...times), { ...NONE, ...rules })
    .filter(({ by }) => by.length > 0)
    .map(({ backup, by }) => `${backup.time}: ${by.join(' ')}`);
}

const TIMES = [
  '2026-09-30T23:59',
  '2026-10-01T00:00',
  '2026-11-01T12:00', // a Sunday
  '2026-11-02T00:00', // a Monday
  '2026-11-08T23:59', // a Sunday
  '2026-11-09T08:00',
  '2026-11-09T20:00',
  '2026-11-10T08:00',
  '2026-11-10T20:00',
];

describe('what prune keeps of one disk', () => {
  test.each<[string, Partial<KeepRules>, string[]]>([
    [
      'the last three are the newest three',
      { last: 3 },
      ['2026-11-10T20:00: last', '2026-11-10T08:00: last', '2026-11-09T20:00: last'],
    ],
    [
      'of each day that has one the newest, and days without one do not count',
      { daily: 3 },
      ['2026-11-10T20:00: daily', '2026-11-09T20:00: daily', '2026-11-08T23:59: daily'],
    ],
    [
      'a week begins on Monday',
      { weekly: 3 },
      ['2026-11-10T20:00: weekly', '2026-11-08T23:59: weekly', '2026-11-01T12:00: weekly'],
    ],
    [
      'months are those of the calendar, and end at midnight in UTC',
      { monthly: 9 },
      ['2026-11-10T20:00: monthly', '2026-10-01T00:00: monthly', '2026-09-30T23:59: monthly'],
    ],
    [
      'what one rule keeps counts for the others too',
      { last: 1, daily: 2, weekly: 1 },
      ['2026-11-10T20:00: last daily weekly', '2026-11-09T20:00: daily'],
    ],
    [
      'more than there are keeps all that it means',
      { last: 1000 },
      TIMES.toReversed().map((time) => `${time}: last`),
    ],
    ['no rule keeps nothing', {}, []],
  ])('%s', (_title, rules, stay) => {
    expect(staying(TIMES, rules)).toEqual(stay);
  });

  test('of two backups of the same time the later one is the newer', () => {
    const backups = [
      { timeMs: 5, id: 'first' },
      { timeMs: 5, id: 'second' },
    ];
    const [newest, other] = retention(backups, { ...NONE, daily: 1 });
    expect(newest).toEqual({ backup: backups[1], by: ['daily'] });
    expect(other).toEqual({ backup: backups[0], by: [] });
  });

  test('times before 1970 and a clock that ran back have their days and weeks as well', () => {
    const backups = made('1969-12-31T23:00', '1970-01-01T01:00', '1969-12-29T00:00');
    const stay = retention(backups, { ...NONE, daily: 5, weekly: 5 }).map(
      ({ backup, by }) => `${backup.time}: ${by.join(' ')}`,
    );
    expect(stay).toEqual([
      '1970-01-01T01:00: daily weekly',
      '1969-12-31T23:00: daily',
      '1969-12-29T00:00: daily',
    ]);
  });

  const year = fc.date({
    min: new Date('2025-12-20T00:00Z'),
    max: new Date('2027-01-10T00:00Z'),
    noInvalidDate: true,
  });
  const backups = fc.array(
    year.map((date) => ({ timeMs: date.getTime() })),
    { maxLength: 60 },
  );
  const rules = fc.record(
    Object.fromEntries(KEEP_RULES.map((rule) => [rule, fc.nat(12)])),
  ) as fc.Arbitrary<KeepRules>;

  test('every backup is told once, and no rule keeps more than it says', () => {
    fc.assert(
      fc.property(backups, rules, (all, keep) => {
        const told = retention(all, keep);
        expect(new Set(told.map(({ backup }) => backup))).toEqual(new Set(all));
        expect(told).toHaveLength(all.length);
        for (const rule of KEEP_RULES) {
          const count = told.filter(({ by }) => by.includes(rule)).length;
          expect(count).toBeLessThanOrEqual(keep[rule]);
          if (rule === 'last') expect(count).toBe(Math.min(keep.last, all.length));
        }
      }),
    );
  });

  test('the newest one stays as long as any rule keeps one', () => {
    fc.assert(
      fc.property(backups, rules, (all, keep) => {
        fc.pre(all.length > 0 && KEEP_RULES.some((rule) => keep[rule] > 0));
        expect(retention(all, keep)[0]?.by).not.toEqual([]);
      }),
    );
  });

  test('to prune twice is to prune once', () => {
    fc.assert(
      fc.property(backups, rules, (all, keep) => {
        const stay = new Set(
          retention(all, keep).flatMap(({ backup, by }) => (by.length > 0 ? [backup] : [])),
        );
        const again = retention(
          all.filter((backup) => stay.has(backup)),
          keep,
        );
        expect(again.filter(({ by }) => by.length === 0)).toEqual([]);
      }),
    );
  });
});

test('a time beyond the calendar is judged as well, and hides no other', () => {
  const forged = { timeMs: Number.MAX_SAFE_INTEGER };
  const other = { timeMs: 0 };
  const rules = { last: 0, daily: 0, weekly: 0, monthly: 2 };
  const kept = retention([other, forged], rules);
  expect(kept.map(({ backup, by }) => [backup, by])).toEqual([
    [forged, ['monthly']],
    [other, ['monthly']],
  ]);
});
