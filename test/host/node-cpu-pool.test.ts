import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import type { CpuPool } from '../../src/contracts/cpu-pool.ts';
import { nodeCpuPool } from '../../src/host/node-cpu-pool.ts';
import { cpuPoolContract } from '../contracts/cpu-pool.ts';

cpuPoolContract('the pool of threads', () => nodeCpuPool(2));
cpuPoolContract('a pool of one thread', () => nodeCpuPool(1));

test('a job that breaks a belief fails alone, with the sentence', async () => {
  await using pool = nodeCpuPool(1);
  const bytes = pool.memory(10).fill(1);
  const bad = pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4, bytes });
  const good = pool.name({ hash: 'sha256', type: 'data', sliceBytes: 5, bytes });
  await expect(bad).rejects.toThrow('whole slices are named');
  expect(await good).toHaveLength(64);
});

test('memory of the pool is shared: a thread fills it, nothing is copied', async () => {
  await using pool = nodeCpuPool(1);
  const bytes = pool.memory(8192).fill(65);
  const [form] = await pool.compress({
    ...{ codec: 'zstd', level: 3, sliceBytes: 8192 },
    ...{ bytes, which: [0] },
  });
  expect(form?.length).toBeLessThan(100);
  expect(bytes[0]).not.toBe(65);
});

/** So much work that one thread is not enough. */
function longJobs(pool: CpuPool, mebibytes = 16): Promise<unknown>[] {
  const bytes = pool.memory(mebibytes * MiB).fill(1);
  const job = { hash: 'sha256', type: 'data', sliceBytes: MiB, bytes } as const;
  return Array.from({ length: 50 }, () => pool.name(job));
}

test('the jobs of a thread that is killed fail and say so; another thread does what comes later', async () => {
  await using pool = nodeCpuPool(1);
  const made = once(process, 'worker');
  const jobs = longJobs(pool).map((job) => job.catch((error: unknown) => error));
  const [worker]: Worker[] = await made;
  await once(worker!, 'online');
  await worker!.terminate();
  const ends = await Promise.all(jobs);
  const failed = ends.filter((end) => !(end instanceof Uint8Array));
  expect(failed.length).toBeGreaterThan(0);
  for (const failure of failed) {
    const message = 'a thread that hashes and compresses died: it ended with status 1';
    expect(failure).toMatchObject({ code: 'ERR_IO', message });
  }
  expect(failed.length).toBeLessThan(jobs.length);
});

/** The nice value of each thread of this process (proc(5), field 19 of stat). */
function niceValues(): number[] {
  return readdirSync('/proc/self/task').map((thread) => {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    // Behind the name, which may hold anything, stands field 3.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19 - 3]);
  });
}
const NICE = 10;

const onLinux = test.skipIf(process.platform !== 'linux');

onLinux('threads that are to yield do so, and no others', async () => {
  await using usual = nodeCpuPool(2);
  await Promise.all(longJobs(usual));
  expect(niceValues()).not.toContain(NICE);
  await using yielding = nodeCpuPool(2, true);
  await Promise.all(longJobs(yielding));
  expect(niceValues()).toContain(NICE);
});

onLinux(
  'while others want the processors one of them works, and its jobs are done',
  {
    timeout: 60_000,
  },
  async () => {
    await using stack = new AsyncDisposableStack();
    // None of these ever rests.
    for (let thread = 0; thread < 2 * availableParallelism(); thread += 1) {
      const greedy = new Worker('for (;;);', { eval: true });
      stack.defer(async () => void (await greedy.terminate()));
      await once(greedy, 'online');
    }
    await using pool = nodeCpuPool(4, true);
    const bytes = pool.memory(8 * MiB);
    crypto.getRandomValues(bytes.subarray(0, 65_536));
    const job = { codec: 'zstd', level: 19, sliceBytes: 65_536, bytes, which: [0] } as const;
    for (let jobs = 0; jobs < 100; jobs += 1) await pool.compress(job);
    await Promise.all(longJobs(pool, 1));
    // One that is crowded begins no second.
    expect(niceValues().filter((nice) => nice === NICE)).toHaveLength(1);
  },
);
