import { describe, expect, test } from 'vitest';
import { type Misfortune, runOnFaultyDisk } from './faulty-disk-run.ts';

const MISFORTUNES: readonly Misfortune[] = ['a full disk', 'a disk that refuses now and then'];
const fresh = () => Array.from({ length: 8 }, () => Math.floor(Math.random() * 2 ** 31));
/** Replay: `SEEDS=3,17 npx vitest run --project unit faults`. */
const seeds = process.env['SEEDS']?.split(',').map(Number) ?? fresh();

describe.for(MISFORTUNES)('on %s', (misfortune) => {
  test.for(seeds)(
    'nothing that was promised is lost, and nothing is damaged (seed %i)',
    async (seed) => {
      const run = await runOnFaultyDisk(seed, misfortune);
      expect(run.violations).toEqual([]);
    },
  );

  test('requests do fail', async () => {
    const run = await runOnFaultyDisk(1, misfortune);
    expect(run.refusals.get('ERR_NO_SPACE')).toBeGreaterThan(0);
  });
});

/** What random seeds have found, in words. */
test.for([
  // Else it kept an object that was closed, took it for the oldest, and began to sync it for ever.
  [
    'blocks become zeroes while a sync of their object begins: whoever syncs is told in the same turn',
    29_708_189,
    'a disk that refuses now and then',
  ],
  [
    'a trim that fails beside another that finds nothing left to do',
    1_290_684_148,
    'a disk that refuses now and then',
  ],
  [
    'a flush waits at the gate while a sync in the background takes what it came for, and fails',
    1_729_149_904,
    'a disk that refuses now and then',
  ],
  [
    'an object is removed after a sync has failed, of the entry that was to go before it',
    1_863_361_231,
    'a disk that refuses now and then',
  ],
  ['many writes take room before any of them has written', 2_011_388_645, 'a full disk'],
] as const)('%s', async ([, seed, misfortune]) => {
  const run = await runOnFaultyDisk(seed, misfortune);
  expect(run.violations).toEqual([]);
});
