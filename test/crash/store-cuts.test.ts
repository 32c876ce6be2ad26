import { expect, test } from 'vitest';
import { runPowerCuts } from './power-cut-run.ts';

/**
 * The row `none` of the crash contract (README, "What is promised"), by stopping: 20 worlds, 10
 * stops each. Replay: `SEEDS=3,17 npx vitest run --project sim store-cuts`. Thousands of them:
 * `npm run cuts -- 1000`.
 */
const fresh = () => Array.from({ length: 20 }, () => Math.floor(Math.random() * 2 ** 31));
const seeds = process.env['SEEDS']?.split(',').map(Number) ?? fresh();

test.for(seeds)(
  'seed %i: after each of 10 stops the disk holds what was promised',
  async (seed) => {
    const run = await runPowerCuts({ seed, cuts: 10, steps: 60 });
    expect(run.violations).toEqual([]);
    expect(run.cuts).toBe(10);
  },
);
