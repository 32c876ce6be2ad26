import { expect, test } from 'vitest';
import { runKillRounds } from './kill-rounds.ts';

/**
 * The row `none` of the crash contract (README, "What is promised"), column kill -9, on the daemon
 * as users run it. Replay, as far as timing allows: `SEED=3 npx vitest run --project sim kill`.
 * Many rounds: `npm run kills -- 50`.
 */
const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

test(`seed ${seed}: what was answered is there after each kill -9, no block torn`, async () => {
  for await (const { violations, writes } of runKillRounds({ seed, rounds: 4 })) {
    expect(violations).toEqual([]);
    expect(writes).toBeGreaterThan(0);
  }
});
