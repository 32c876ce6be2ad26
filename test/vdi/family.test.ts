import fc from 'fast-check';
import { test } from 'vitest';
import { KINDS, Life, stepsOf } from './family-life.ts';
import { openWorld } from './family-world.ts';

test('a family of VDIs is what whole copies would be, whatever is done to it', async () => {
  await fc.assert(
    fc.asyncProperty(stepsOf(KINDS), (life) => new Life((disk) => openWorld(disk)).run(life)),
    { numRuns: 100 },
  );
}, 300_000);
