import { expect, test } from 'vitest';
import { runCoordinatorCuts } from './coordinator-cuts.ts';
import { type SyncSite, withoutSync } from './left-out-sync.ts';

/** Replay: `SEEDS=3,17 npx vitest run --project sim test/crash/coordinator`. */
const fresh = () => Array.from({ length: 10 }, () => Math.floor(Math.random() * 2 ** 31));
const seeds = process.env['SEEDS']?.split(',').map(Number) ?? fresh();

test.for(seeds)(
  'seed %i: a power cut leaves every answered change, and no half of any',
  async (seed) => {
    expect(await runCoordinatorCuts({ seed, cuts: 20, steps: 40 })).toEqual([]);
  },
);

/** Every sync of src/cluster, by the function that calls it, and what it is for. */
const SITES: readonly (SyncSite & { readonly guards: string })[] = [
  { call: 'sync', from: 'append', guards: 'what is answered' },
  { call: 'sync', from: 'create', guards: 'a new log is whole when it gets its name' },
  { call: 'syncDirectory', from: 'create', guards: 'a log that was rewritten stays the one' },
  { call: 'syncDirectory', from: 'open', guards: 'the log that a killed process had rewritten' },
  {
    call: 'sync',
    from: 'open',
    guards: 'what was read of a killed process is shown only if it stays',
  },
];
const SEEDS_MAX = 100;

test.for(SITES)('without $call in $from a cut shows it: $guards', async (site) => {
  let skipped = 0;
  const wrap = (disk: Parameters<typeof withoutSync>[0]) =>
    withoutSync(disk, site, () => {
      skipped += 1;
    });
  let caught: string | undefined;
  for (let seed = 1; seed <= SEEDS_MAX && caught === undefined; seed += 1) {
    [caught] = await runCoordinatorCuts({ seed, cuts: 10, steps: 40, wrap });
  }
  expect(skipped).toBeGreaterThan(0);
  expect(caught).toBeDefined();
});
