import { describe, expect, test } from 'vitest';
import type { Random } from '../../src/contracts/seams.ts';

/** What any Random must do. */
export function randomContract(name: string, fresh: () => Random): void {
  describe(`${name} is a Random`, () => {
    test.for([1, 2, 3, 1000, 2 ** 32, 2 ** 32 + 1, 2 ** 48 - 1])(
      'numbers below %i are whole and in range',
      (limit) => {
        const random = fresh();
        for (let draw = 0; draw < 1000; draw += 1) {
          const drawn = random.below(limit);
          expect(Number.isInteger(drawn) && drawn >= 0 && drawn < limit).toBe(true);
        }
      },
    );

    test('all numbers come about equally often', () => {
      const random = fresh();
      const counts = [0, 0, 0, 0, 0, 0];
      for (let draw = 0; draw < 6000; draw += 1) counts[random.below(6)]! += 1;
      for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(200);
    });

    test('a large limit is used up to its end', () => {
      const random = fresh();
      const limit = 2 ** 48 - 1;
      const eighths = new Set<number>();
      for (let draw = 0; draw < 500; draw += 1)
        eighths.add(Math.floor((random.below(limit) / limit) * 8));
      expect(eighths.size).toBe(8);
    });

    test.for([0, -1, 2 ** 48, 1.5, Number.NaN])('a limit of %d is refused', (limit) => {
      expect(() => fresh().below(limit)).toThrow();
    });

    test.for([0, 1, 7, 64, 70_001])('there are %i bytes if one asks for them', (length) => {
      expect(fresh().bytes(length).length).toBe(length);
    });

    test('bytes differ from call to call and take every value', () => {
      const random = fresh();
      const first = random.bytes(10_000);
      expect(random.bytes(10_000)).not.toEqual(first);
      expect(new Set(first).size).toBe(256);
    });
  });
}
