import { expect, test } from 'vitest';
import { shareFiles } from '../../src/app/open-files.ts';
import { limitsFor } from '../../src/farm/limits.ts';

test.for([512, 1024, 4096, 20_000, 524_288])(
  'of %i files clients, open objects and objects that wait for a sync leave some for the rest',
  (filesMax) => {
    const { connections, objects } = shareFiles(filesMax);
    const { openObjects, unsyncedObjects } = limitsFor(objects, 2 ** 34);
    expect(connections + openObjects + unsyncedObjects).toBeLessThanOrEqual(filesMax - 192);
    expect(Math.min(connections, openObjects, unsyncedObjects)).toBeGreaterThanOrEqual(80);
  },
);

test('with as many files as Linux gives a service nothing is smaller than it could be', () => {
  expect(shareFiles(524_288)).toMatchObject({ connections: 4096 });
});

test('with too few the refusal says how to get more', () => {
  expect(() => shareFiles(511)).toThrow(/511 files open, and needs 512; raise 'ulimit -n'/);
});
