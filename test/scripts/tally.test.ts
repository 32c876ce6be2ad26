import { expect, test } from 'vitest';
import { describeTally, sum, tallyOf } from '../../scripts/tally.ts';

interface Counts {
  passed?: number;
  failed?: number;
  pending?: number;
  todo?: number;
  /** Files that did not load. */
  unloaded?: number;
}

function report({ passed = 0, failed = 0, pending = 0, todo = 0, unloaded = 0 }: Counts): string {
  return JSON.stringify({
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: pending,
    numTodoTests: todo,
    testResults: [
      { status: failed > 0 ? 'failed' : 'passed', assertionResults: [{}] },
      ...Array.from({ length: unloaded }, () => ({ status: 'failed', assertionResults: [] })),
    ],
  });
}

test('counts are taken over', () => {
  expect(tallyOf(report({ passed: 3, pending: 1, todo: 1 }), true)).toEqual({
    passed: 3,
    failed: 0,
    skipped: 2,
  });
  expect(tallyOf(report({ passed: 3, failed: 2 }), false).failed).toBe(2);
});

test.for<[string, string | undefined, boolean, number]>([
  ['a suite without a test', report({}), true, 1],
  ['a suite of which every test is skipped', report({ pending: 4 }), true, 1],
  ['a run that ended badly although no test failed', report({ passed: 2 }), false, 1],
  ['a run that left no report', undefined, true, 1],
  ['files that did not load', report({ passed: 1, unloaded: 2 }), false, 2],
  [
    'files that did not load beside tests that failed',
    report({ failed: 1, unloaded: 2 }),
    false,
    3,
  ],
])('%s counts as failed', ([, text, clean, failed]) => {
  expect(tallyOf(text, clean).failed).toBe(failed);
});

test('the last line sums the suites and names what was skipped only if something was', () => {
  const one = { passed: 2, failed: 0, skipped: 0 };
  expect(describeTally(sum([one, one]))).toBe('4 passed, 0 failed');
  expect(describeTally(sum([one, { passed: 0, failed: 1, skipped: 5 }]))).toBe(
    '2 passed, 1 failed, 5 skipped',
  );
});
