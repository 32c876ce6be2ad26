import { expect, test } from 'vitest';
import type { Disk } from '../../src/contracts/disk.ts';
import { type SyncSite, withoutSync } from './left-out-sync.ts';
import { stops } from './snapshot-steps.ts';

/**
 * A store of snapshots is made, filled, pruned and collected, and stopped after every step of its
 * disk's log: each backup that was answered is there byte for byte, one that was not is there or is
 * not, and the store goes on.
 */
test.for(['sha256', 'sha1'] as const)(
  'a store of %s, stopped after any step, keeps what it answered for',
  async (hash) => {
    const stopped = await stops({ hash, stride: hash === 'sha1' ? 4 : 1 });
    expect(stopped.found).toEqual([]);
    expect(stopped.stops).toBeGreaterThan(hash === 'sha1' ? 150 : 500);
  },
);

/** Every sync of src/farm/snapshots, by the function that calls it, and what it is for. */
const SITES: readonly (SyncSite & { readonly guards: string; readonly kills?: true })[] = [
  { call: 'syncAll', from: 'makeStore', guards: 'its folders are there before the identity' },
  { call: 'sync', from: 'replaceFile', path: 'farm.json.draft', guards: 'a whole identity' },
  { call: 'sync', from: 'replaceFile', path: 'user_snap.draft', guards: 'a whole log' },
  { call: 'sync', from: 'seal', guards: 'a pack is whole when it has its name' },
  { call: 'syncDirectory', from: '#name', guards: 'a pack keeps its name' },
  { call: 'sync', from: 'append', guards: 'a snap that was answered for' },
  { call: 'sync', from: 'mend', kills: true, guards: 'a line of a process that was killed' },
  {
    call: 'syncDirectory',
    from: 'beginWriting',
    path: '/packs',
    kills: true,
    guards: 'a pack of a process that was killed',
  },
  {
    call: 'syncDirectory',
    from: 'beginWriting',
    path: '/store',
    kills: true,
    guards: 'the identity that a killed process made',
  },
  { call: 'syncDirectory', from: 'removePacks', guards: 'what was freed stays so' },
];

test.for(SITES)('without $call in $from ($path) a stop shows it: $guards', async (site) => {
  let skipped = 0;
  const wrap = (disk: Disk) =>
    withoutSync(disk, site, () => {
      skipped += 1;
    });
  const { found } = await stops({ hash: 'sha256', wrap, kills: site.kills === true });
  expect(skipped).toBeGreaterThan(0);
  expect(found).not.toEqual([]);
});
