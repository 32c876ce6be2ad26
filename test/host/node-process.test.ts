import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';

const MODULE = resolve(import.meta.dirname, '../../src/host/node-process.ts');

/**
 * How large the heap of a process is, nine tenths of the time, that keeps replacing objects which live
 * for a while, once it has been collected for the first time; in MiB. Not its peak: what threads of V8
 * mark is marked late on a busy machine, once in a while.
 */
function heapWithGarbage(prepare: string): number {
  const program = `
    import { setImmediate } from 'node:timers/promises';
    import { collectOften } from ${JSON.stringify(MODULE)};
    ${prepare}
    const kept = new Array(8192).fill(undefined);
    const sizes = [];
    for (let made = 0; made < 400_000; made += 1) {
      kept[made % kept.length] = { life: BigInt(made), marks: new Array(200).fill(made) };
      if (made % 256 !== 0) continue;
      await setImmediate();
      if (made > 200_000) sizes.push(process.memoryUsage().heapTotal);
    }
    sizes.sort((a, b) => a - b);
    process.stdout.write(String(sizes[Math.floor(sizes.length * 0.9)]));`;
  const args = ['--max-semi-space-size=8', '--input-type=module', '--eval', program];
  return Number(execFileSync(process.execPath, args, { encoding: 'utf8' })) / MiB;
}

test('garbage that has lived for a while does not become the larger part of the heap', () => {
  // 14 MiB are alive, beside 16 for what is young.
  expect(heapWithGarbage('collectOften();')).toBeLessThan(heapWithGarbage('') * 0.75);
});
