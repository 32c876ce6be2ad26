import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Bitmap } from '../../src/base/bitmap.ts';

const LENGTH = 200;
const operations = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('add' as const), from: fc.nat(LENGTH - 1), to: fc.constant(0) }),
    fc
      .tuple(fc.nat(LENGTH), fc.nat(LENGTH))
      .map(([a, b]) => ({ kind: 'range' as const, from: Math.min(a, b), to: Math.max(a, b) })),
    fc.constant({ kind: 'clear' as const, from: 0, to: 0 }),
  ),
  { maxLength: 30 },
);

test('a bitmap is a set of numbers, counted as it changes', () => {
  fc.assert(
    fc.property(operations, fc.nat(LENGTH), fc.nat(LENGTH), (steps, from, to) => {
      const bits = new Bitmap(LENGTH);
      const set = new Set<number>();
      for (const step of steps) {
        const before = set.size;
        if (step.kind === 'clear') {
          bits.clear();
          set.clear();
        } else if (step.kind === 'add') {
          set.add(step.from);
          expect(bits.add(step.from)).toBe(set.size > before);
        } else {
          for (let index = step.from; index < step.to; index += 1) set.add(index);
          expect(bits.addRange(step.from, step.to)).toBe(set.size - before);
        }
        expect(bits.count).toBe(set.size);
      }
      expect([...bits]).toEqual([...set].sort((a, b) => a - b));
      let all = true;
      for (let index = from; index < to; index += 1) all &&= set.has(index);
      expect(bits.hasAll(from, to)).toBe(all);
      for (let index = 0; index < LENGTH; index += 1) expect(bits.has(index)).toBe(set.has(index));
      const later = [...set].filter((index) => index >= from);
      expect(bits.next(from)).toBe(Math.min(LENGTH, ...later));
    }),
  );
});

test('a range outside the bitmap is a broken belief', () => {
  expect(() => new Bitmap(10).addRange(5, 11)).toThrow('inside');
  expect(() => new Bitmap(10).addRange(-1, 2)).toThrow('inside');
});

test('three bitmaps in one memory know nothing of each other', () => {
  const three = Bitmap.three(LENGTH);
  const [first, second, third] = three;
  second.addRange(0, LENGTH);
  expect([first.count, second.count, third.count]).toEqual([0, LENGTH, 0]);
  expect(three.map((bits) => bits.next(0))).toEqual([LENGTH, 0, LENGTH]);
  first.add(LENGTH - 1);
  third.add(0);
  second.clear();
  expect(three.map((bits) => [...bits])).toEqual([[LENGTH - 1], [], [0]]);
  expect(three.map((bits) => bits.next(1))).toEqual([LENGTH - 1, LENGTH, LENGTH]);
});

test('bits need as much memory as they are', () => {
  expect(() => new Bitmap(64, new Uint32Array(2), 1)).toThrow('hold');
});
