import { expect, test } from 'vitest';
import { simRandom } from '../../src/sim/sim-random.ts';
import { randomContract } from '../contracts/random.ts';

randomContract('chance from a seed', () => simRandom(1));

test('a seed gives the same numbers each time', () => {
  const draw = () => {
    const random = simRandom(12_345);
    return [random.below(1000), random.below(2 ** 40), ...random.bytes(9), random.below(7)];
  };
  expect(draw()).toEqual(draw());
});

test('no two seeds give the same numbers', () => {
  const seeds = new Set([0, 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 33, 2 ** 53 - 1]);
  for (let seed = 0; seed < 5000; seed += 1)
    seeds
      .add(seed)
      .add(seed * 2 ** 32)
      .add(seed * 2 ** 16);
  const first = new Set([...seeds].map((seed) => simRandom(seed).bytes(16).join()));
  expect(first.size).toBe(seeds.size);
});

test('seeds that differ little give numbers that differ much', () => {
  let differing = 0;
  for (let seed = 0; seed < 500; seed += 1) {
    const [one, other] = [simRandom(seed).bytes(16), simRandom(seed + 1).bytes(16)];
    for (const [at, byte] of one.entries()) {
      for (let bits = byte ^ other[at]!; bits > 0; bits &= bits - 1) differing += 1;
    }
  }
  expect(differing / (500 * 128)).toBeCloseTo(0.5, 2);
});

test.for([-1, 1.5, 2 ** 53, Number.NaN])('%d is no seed', (seed) => {
  expect(() => simRandom(seed)).toThrow('a seed is a whole number');
});
