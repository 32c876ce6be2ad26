import { expect, test } from 'vitest';
import { assert, unreachable } from '../../src/base/assert.ts';
import { describeError, isFault, SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES, PiB, roundDown, roundUp } from '../../src/base/units.ts';

test('a fault is known by its code', () => {
  const error = new SheepError('ERR_IO', 'it broke', { path: '/x' }, new Error('EIO'));
  expect(isFault(error, 'ERR_IO')).toBe(true);
  expect(isFault(error, 'ERR_LOST')).toBe(false);
  expect(isFault(new Error('it broke'), 'ERR_IO')).toBe(false);
  expect(error.facts).toEqual({ path: '/x' });
});

test('an error is one line for people, with its cause where there is one', () => {
  const cause = new Error('EIO');
  expect(describeError(new SheepError('ERR_IO', 'it broke', {}, cause))).toBe('it broke (EIO)');
  expect(describeError(new SheepError('ERR_IO', 'it broke'))).toBe('it broke');
  expect(describeError('text')).toBe('text');
});

test('a broken belief is no fault of the world', () => {
  expect(() => assert(false, 'two and two are four')).toThrow(
    expect.objectContaining({ name: 'AssertionFailure', message: 'two and two are four' }),
  );
  expect(() => unreachable('a case' as never)).toThrow('a case');
  assert(true, 'nothing');
});

test('sizes are rounded to units, also large ones', () => {
  expect(roundUp(0, BLOCK_BYTES)).toBe(0);
  expect(roundUp(1, BLOCK_BYTES)).toBe(BLOCK_BYTES);
  expect(roundUp(PiB - 1, BLOCK_BYTES)).toBe(PiB);
  expect(roundDown(PiB - 1, BLOCK_BYTES)).toBe(PiB - BLOCK_BYTES);
  expect(roundDown(BLOCK_BYTES, BLOCK_BYTES)).toBe(BLOCK_BYTES);
});
