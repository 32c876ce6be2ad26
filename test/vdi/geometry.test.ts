import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MiB, PiB } from '../../src/base/units.ts';
import { objectCount, pieces } from '../../src/vdi/geometry.ts';

const objectSizes = fc.integer({ min: 0, max: 6 }).map((power) => MiB * 2 ** power);

describe('a range cut at the borders of objects', () => {
  test('is covered by its pieces, in order, without gap or overlap', () => {
    fc.assert(
      fc.property(
        fc.nat(PiB - 1),
        fc.integer({ min: 1, max: 300 * MiB }),
        objectSizes,
        (at, length, objectBytes) => {
          let offset = 0;
          for (const piece of pieces(at, length, objectBytes)) {
            expect(piece.offset).toBe(offset);
            expect(piece.index * objectBytes + piece.at).toBe(at + offset);
            expect(piece.length).toBeGreaterThan(0);
            expect(piece.at + piece.length).toBeLessThanOrEqual(objectBytes);
            offset += piece.length;
          }
          expect(offset).toBe(length);
        },
      ),
    );
  });

  test('has no more pieces than objects', () => {
    fc.assert(
      fc.property(
        fc.nat(PiB - 1),
        fc.integer({ min: 1, max: 300 * MiB }),
        objectSizes,
        (at, length, objectBytes) => {
          const indexes = [...pieces(at, length, objectBytes)].map(({ index }) => index);
          const first = Math.floor(at / objectBytes);
          const last = Math.floor((at + length - 1) / objectBytes);
          expect(indexes).toEqual(
            Array.from({ length: last - first + 1 }, (_, place) => first + place),
          );
        },
      ),
    );
  });

  test.for([
    [0, 4 * MiB, [[0, 0, 4 * MiB, 0]]],
    [
      4 * MiB - 1,
      2,
      [
        [0, 4 * MiB - 1, 1, 0],
        [1, 0, 1, 1],
      ],
    ],
    [PiB - 1, 1, [[2 ** 28 - 1, 4 * MiB - 1, 1, 0]]],
    [5, 0, []],
  ] as const)('from %i, %i bytes', ([at, length, expected]) => {
    const found = [...pieces(at, length, 4 * MiB)];
    expect(found.map((piece) => [piece.index, piece.at, piece.length, piece.offset])).toEqual(
      expected,
    );
  });
});

test.for([
  [1, 1],
  [4 * MiB, 1],
  [4 * MiB + 1, 2],
  [PiB, 2 ** 28],
])('a disk of %i bytes has %i objects of 4 MiB', ([sizeBytes, count]) => {
  expect(objectCount(sizeBytes as number, 4 * MiB)).toBe(count);
});
