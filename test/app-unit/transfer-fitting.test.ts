import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fitting, peek } from '../../src/app/transfer/fitting.ts';
import type { Piece } from '../../src/app/transfer/pieces.ts';

async function* of<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** Pieces one behind the other: how long each is, and whether it has bytes. */
function piecesOf(parts: readonly (readonly [number, boolean])[]): Piece[] {
  let at = 0;
  return parts.map(([length, data]) => {
    const piece = { at, length, ...(data && { bytes: new Uint8Array(length).fill(1) }) };
    at += length;
    return piece;
  });
}

describe('pieces that fit a disk', () => {
  test('cover all of it, with the same data, and zeroes in one piece', async () => {
    const part = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.boolean());
    const parts = fc.array(part, { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(parts, fc.integer({ min: 0, max: 9 }), async (given, missing) => {
        const length = given.reduce((sum, [one]) => sum + one, 0);
        const fitted = await all(fitting(of(piecesOf(given)), length + missing));
        let end = 0;
        for (const [place, piece] of fitted.entries()) {
          expect(piece.at).toBe(end);
          end += piece.length;
          const before = fitted[place - 1];
          if (before !== undefined) expect(before.bytes ?? piece.bytes).toBeDefined();
        }
        expect(end).toBe(length + missing);
        const withData = (pieces: readonly Piece[]) => pieces.filter(({ bytes }) => bytes);
        expect(withData(fitted)).toEqual(withData(piecesOf(given)));
      }),
    );
  });

  test('are refused when there is one too many, which is not passed on', async () => {
    const passed: Piece[] = [];
    const taking = (async () => {
      for await (const piece of fitting(
        of(
          piecesOf([
            [4, true],
            [4, true],
          ]),
        ),
        7,
      ))
        passed.push(piece);
    })();
    await expect(taking).rejects.toThrow(/more to import than the 7 bytes/);
    expect(passed.map(({ at }) => at)).toEqual([0]);
  });
});

describe('a look at the beginning of a stream', () => {
  test('takes nothing from it', async () => {
    const chunks = fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(chunks, fc.integer({ min: 0, max: 20 }), async (given, length) => {
        const whole = Buffer.concat(given);
        const looked = await peek(of(given), length);
        expect(Buffer.from(looked.head)).toEqual(whole.subarray(0, length));
        expect(Buffer.concat(await all(looked.chunks))).toEqual(whole);
      }),
    );
  });
});
