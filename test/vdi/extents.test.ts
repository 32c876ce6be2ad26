import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExtentRuns } from '../../src/vdi/extents.ts';

const contents = fc.constantFrom('data' as const, 'zero' as const, 'hole' as const);
const runs = fc.array(fc.tuple(fc.integer({ min: 1, max: 10 ** 12 }), contents), {
  maxLength: 30,
});
const FLAGS = {
  data: { hole: false, zero: false },
  zero: { hole: false, zero: true },
  hole: { hole: true, zero: true },
};

describe('runs joined into extents', () => {
  test('say what was added, each as long as it goes', () => {
    fc.assert(
      fc.property(runs, (added) => {
        const joined = new ExtentRuns(1000);
        const expected: { length: number; hole: boolean; zero: boolean }[] = [];
        let last: string | undefined;
        for (const [length, content] of added) {
          joined.add(length, content);
          const before = expected.at(-1);
          if (before !== undefined && last === content) before.length += length;
          else expected.push({ length, ...FLAGS[content] });
          last = content;
        }
        expect(joined.done()).toEqual(expected);
        expect(joined.some).toBe(added.length > 0);
      }),
    );
  });

  test('end after as many as were asked for, and the last of them is whole', () => {
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 5 }), (added, countMax) => {
        const all = new ExtentRuns(1000);
        const few = new ExtentRuns(countMax);
        for (const [length, content] of added) {
          all.add(length, content);
          if (!few.full) few.add(length, content);
        }
        expect(few.done()).toEqual(all.done().slice(0, countMax));
        expect(few.full).toBe(all.done().length > countMax);
      }),
    );
  });
});
