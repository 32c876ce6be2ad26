import { expect, test } from 'vitest';
import { fields, formatBytes, formatDuration, formatTime, table } from '../../src/cli/output.ts';

test('a table has columns as wide as they need to be, and numbers at the right', () => {
  const lines = table(
    ['NAME', 'COUNT', 'NOTE'],
    [
      ['a', '7', ''],
      ['longer', '1024', 'x'],
    ],
  );
  expect(lines).toEqual(['NAME    COUNT  NOTE', 'a           7', 'longer   1024  x']);
});

test('a table without rows is its head', () => {
  expect(table(['NAME', 'SIZE'], [])).toEqual(['NAME  SIZE']);
});

test('columns stay straight below wide characters', () => {
  const lines = table(
    ['NAME', 'X'],
    [
      ['羊羊', 'a'],
      ['\u{1f411}', 'b'],
      ['e\u0301', 'c'],
    ],
  );
  expect(lines).toEqual(['NAME  X', '羊羊  a', '\u{1f411}    b', 'e\u0301     c']);
});

test('fields stand below each other', () => {
  expect(
    fields([
      ['id', '7'],
      ['longer', 'x'],
      ['none', ''],
    ]),
  ).toEqual(['id:     7', 'longer: x', 'none:']);
});

test.for<[number, string]>([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [8 * 2 ** 30, '8 GiB'],
  [2 ** 50, '1 PiB'],
])('%i bytes are %s', ([bytes, text]) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.for<[number, string]>([
  [0, '0 s'],
  [999, '0 s'],
  [61_000, '1 min 1 s'],
  [3_600_000, '1 h 0 min'],
  [90_000_000, '1 d 1 h'],
])('%i ms are %s', ([ms, text]) => {
  expect(formatDuration(ms)).toBe(text);
});

test('times are in UTC and can be sorted', () => {
  expect(formatTime(0)).toBe('1970-01-01 00:00:00');
  expect(formatTime(Number.MAX_SAFE_INTEGER)).toBe('9007199254740991 ms');
});
