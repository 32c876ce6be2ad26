import { describe, expect, test } from 'vitest';
import type { CaseResult } from '../../bench/compare.ts';
import { parseOptions } from '../../bench/options.ts';
import { cpuSeconds, memoryBytes } from '../../bench/process-stats.ts';
import { median, rotated } from '../../bench/statistics.ts';
import { report, speedText } from '../../bench/table.ts';

test('the median of an even number of rounds lies between the two in the middle', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([8, 1, 4, 2])).toBe(3);
  expect(median([])).toBeNaN();
});

test('each round begins with another server', () => {
  expect([0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join(''))).toEqual([
    'abc',
    'bca',
    'cab',
    'abc',
  ]);
});

test('what this process used is read from /proc', () => {
  expect(cpuSeconds(process.pid)).toBeGreaterThan(0);
  const nowBytes = memoryBytes(process.pid, 'VmRSS');
  expect(nowBytes).toBeGreaterThan(10 * 2 ** 20);
  expect(memoryBytes(process.pid, 'VmHWM')).toBeGreaterThanOrEqual(nowBytes);
});

describe('options', () => {
  test('are what was given, and defaults for the rest', () => {
    expect(
      parseOptions(['--only', 'read-*', '--size', '2G', '--servers', 'sheep,nbdkit']),
    ).toMatchObject({
      scenario: 'compare',
      only: ['read-*'],
      servers: ['sheep', 'nbdkit'],
      rounds: 3,
      sizeBytes: 2 * 2 ** 30,
    });
    expect(parseOptions(['memory'])).toMatchObject({ scenario: 'memory', only: ['*'] });
    expect(parseOptions(['-h'])).toBe('help');
  });

  test.for([
    [['--rounds', '0'], '--rounds is a whole number, not "0"'],
    [['--seconds', '1.5'], '--seconds is a whole number, not "1.5"'],
    [['--size', '5'], '--size is a number and K, M, G or T, not "5"'],
    [['--servers', 'sheep,nginx'], 'no server "nginx"; there are nbdkit, qemu-nbd, sheep'],
    [['speed'], 'no benchmark "speed"; there are compare, memory, fairness'],
    [['memory', 'fairness'], 'no benchmark "memory fairness"'],
    [['--rouds', '3'], "Unknown option '--rouds'"],
  ] as const)('%j is refused by name', ([args, expected]) => {
    expect(() => parseOptions(args)).toThrow(expected);
  });
});

describe('the report', () => {
  const result = (server: CaseResult['server'], speed: number): CaseResult => ({
    name: 'read-4k-d32',
    server,
    unit: 'requests/s',
    speed,
    cpuUs: 5,
    peakBytes: 2 ** 20,
    rounds: [],
  });

  test('puts the multiple of nbdkit beside the goal, and says if it is below', () => {
    const text = report([result('nbdkit', 100_000), result('sheep', 149_000)]);
    expect(text).toMatch(/read-4k-d32 +\| +100\.0k\/s +\| +149\.0k\/s +\| +1\.49 < 1\.50 /);
    expect(report([result('nbdkit', 100_000), result('sheep', 150_000)])).toContain('1.50 ≥ 1.50');
  });

  test('has no ratio where nbdkit did not run', () => {
    expect(report([result('sheep', 149_000)])).not.toMatch(/NaN|[<≥]/);
  });

  test('speeds have their unit', () => {
    expect(speedText(110_340, 'requests/s')).toBe('110.3k/s');
    expect(speedText(2.5 * 2 ** 30, 'bytes/s')).toBe('2.50 GiB/s');
    expect(speedText(300 * 2 ** 20, 'bytes/s')).toBe('300 MiB/s');
  });
});
