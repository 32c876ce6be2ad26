import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type SyncSite, withoutSync } from './left-out-sync.ts';
import { runPowerCuts } from './power-cut-run.ts';

interface Site extends SyncSite {
  readonly guards: string;
  /** Where it is missed at last, of one that is seldom missed: the search for it takes a minute. */
  readonly firstSeed?: number;
}

/**
 * Every sync of src/farm, by the function that calls it. For each the world is run without it, over
 * the seeds from 1 on, until a stop leaves what the promises forbid: a sync that can be left out
 * unseen is a sync that nobody needs, or a test that sees too little.
 */
const SITES: readonly Site[] = [
  { call: 'sync', from: 'writeIdentity', guards: 'the store has an identity once it has a name' },
  { call: 'syncDirectory', from: 'writeIdentity', guards: 'the store keeps its identity' },
  { call: 'syncDirectory', from: 'makeDirectories', path: '/obj', guards: 'folders of objects' },
  { call: 'syncDirectory', from: 'makeDirectories', path: '/store', guards: 'the folders of all' },
  {
    ...{ call: 'sync', from: '#writeHeader', firstSeed: 401 },
    guards: 'a segment with records has a header',
  },
  { call: 'sync', from: '#begin', guards: 'a segment begins with the activity log' },
  { call: 'syncDirectory', from: '#begin', guards: 'a new segment keeps its name' },
  { call: 'syncDirectory', from: '#discard', guards: 'no gap between segments' },
  { call: 'sync', from: '#commit', guards: 'what the journal says before it is acted upon' },
  { call: 'sync', from: '#syncFile', guards: 'an object that is said to be home' },
  { call: 'syncDirectory', from: '#syncNames', guards: 'the name of a new object' },
  { call: 'syncDirectory', from: '#settleRemoved', guards: 'a removed name stays away' },
  { call: 'sync', from: 'redoObject', guards: 'what was redone before the journal goes' },
  { call: 'syncDirectory', from: 'redoJournal', guards: 'names that were redone' },
  { call: 'syncAll', from: 'recover', guards: 'a page cache newer than the journal' },
];
const SEEDS_MAX = 400;

test('the list names every sync of src/farm', async () => {
  const folder = new URL('../../src/farm/', import.meta.url);
  // The store of snapshots below it has a list of its own: snapshot-steps.test.ts.
  const names = (await readdir(folder)).filter((name) => name.endsWith('.ts'));
  const sources = names.map((name) => readFile(new URL(name, folder), 'utf8'));
  const calls = (await Promise.all(sources)).flatMap((source) =>
    [...source.matchAll(/\.(sync|syncDirectory|syncAll)\(/g)].map(([, call]) => call),
  );
  expect(calls.sort()).toEqual(SITES.map(({ call }) => call).sort());
});

test.for(SITES)('without $call in $from a stop shows: $guards', async (site) => {
  let skipped = 0;
  const wrap = (disk: Parameters<typeof withoutSync>[0]) =>
    withoutSync(disk, site, () => {
      skipped += 1;
    });
  let caught: string | undefined;
  const { firstSeed = 1 } = site;
  for (let seed = firstSeed; seed < firstSeed + SEEDS_MAX && caught === undefined; seed += 1) {
    const run = await runPowerCuts({ seed, cuts: 10, steps: 60, wrap, stopAtFirst: true });
    caught = run.violations[0];
  }
  expect(skipped).toBeGreaterThan(0);
  expect(caught).toBeDefined();
  console.log(`${site.call} in ${site.from}: ${caught?.split('\n')[0]}`);
});
