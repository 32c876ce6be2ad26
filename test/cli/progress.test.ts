import { expect, test } from 'vitest';
import { GiB, MiB } from '../../src/base/units.ts';
import { Progress, progressLine } from '../../src/cli/progress.ts';

function world(watched: boolean) {
  let now = 0;
  const written: string[] = [];
  const stream = { watched, columns: () => 80, write: (text: string) => void written.push(text) };
  const begin = (format?: (amount: number) => string) =>
    new Progress({ stream, nowMs: () => now, label: 'copying', ...(format && { format }) });
  const pass = (ms: number) => {
    now += ms;
  };
  return { begin, written, pass };
}
const EMPTY = '\r\u001b[K';

test('on a terminal one line tells share, amount, rate and time left, and changes in place', () => {
  const { begin, written, pass } = world(true);
  const progress = begin();
  for (let done = 0; done <= 5; done += 1) {
    progress.update(done * 100 * MiB, GiB);
    pass(1000);
  }
  expect(written).toHaveLength(5);
  expect(written.at(-1)).toBe(
    `${EMPTY}copying  [###########------------]  48 %  500 MiB of 1 GiB  100 MiB/s  5 s left`,
  );
  progress.done();
  expect(written.slice(5)).toEqual([EMPTY, 'copying: 500 MiB in 6 s, 83.3 MiB/s\n']);
});

test('what takes less than a second is not shown at all', () => {
  const { begin, written, pass } = world(true);
  const progress = begin();
  for (let step = 0; step < 9; step += 1) {
    progress.update(step, 9);
    pass(100);
  }
  progress.done();
  expect(written).toEqual([]);
});

test('updates as many as one likes are a few lines a second', () => {
  const { begin, written, pass } = world(true);
  const progress = begin();
  for (let step = 0; step < 3000; step += 1) {
    progress.update(step, 3000);
    pass(1);
  }
  expect(written.length).toBeGreaterThan(8);
  expect(written.length).toBeLessThan(12);
});

test('the rate is that of the last ten seconds', () => {
  const { begin, written, pass } = world(true);
  const progress = begin((amount) => `${Math.round(amount)}`);
  for (let step = 0; step < 60; step += 1) {
    progress.update(step < 30 ? step * 100 : 3000 + (step - 30), 10_000);
    pass(1000);
  }
  expect(written.at(-1)).toContain('  1/s  ');
});

test('without a terminal there is one line, at the end', () => {
  const { begin, written, pass } = world(false);
  const progress = begin();
  progress.update(MiB, undefined);
  pass(61_000);
  progress.update(122 * MiB, undefined);
  expect(written).toEqual([]);
  progress.done();
  expect(written).toEqual(['copying: 122 MiB in 1 min 1 s, 2 MiB/s\n']);
});

test('what fails leaves an empty line for the error', () => {
  const { begin, written, pass } = world(true);
  {
    using progress = begin();
    pass(2000);
    progress.update(1, 2);
  }
  expect(written).toHaveLength(2);
  expect(written[1]).toBe(EMPTY);
});

test.for<[number, RegExp]>([
  [200, /^importing 羊 {2}\[#{15}-{15}\] {2}50 % {2}5 of 10 {2}1\/s {2}5 s left$/],
  [60, /^importing 羊 {2}\[#+-+\] {2}50 %/],
  [50, /^importing 羊 {2}50 % {2}5 of 10 {2}1\/s {2}5 s left$/],
  [35, /^50 % {2}5 of 10 {2}1\/s {2}5 s left$/],
  [10, /^50 % {2}5 o$/],
  [0, /^$/],
])('a line fits into %i columns', ([columns, line]) => {
  const facts = { label: 'importing 羊', amount: 5, total: 10, rate: 1, format: String };
  expect(progressLine(facts, columns)).toMatch(line);
});

test('without a total, or with none to do, there is no share and no time left', () => {
  const facts = { label: 'x', amount: 5, rate: 0, format: String };
  expect(progressLine({ ...facts, total: undefined }, 80)).toBe('x  5  0/s');
  expect(progressLine({ ...facts, total: 0 }, 80)).toBe('x  5 of 0  0/s');
});
