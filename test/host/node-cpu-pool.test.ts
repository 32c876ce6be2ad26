import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import type { CpuPool } from '../../src/contracts/cpu-pool.ts';
import { nodeCpuPool } from '../../src/host/node-cpu-pool.ts';
import { cpuPoolContract } from '../contracts/cpu-pool.ts';

cpuPoolContract('the pool of threads', () => nodeCpuPool(2));
cpuPoolContract('a pool of one thread', () => nodeCpuPool(1));

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

/** So much work that some of it is under way when it is asked for. */
function longJobs(pool: CpuPool): Promise<unknown>[] {
  const bytes = pool.memory(16 * MiB).fill(1);
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

test('while no thread has begun, jobs that none has taken are done here, one in each turn', async () => {
  await using pool = nodeCpuPool(2);
  const bytes = pool.memory(4096).fill(1);
  const done: number[] = [];
  const jobs = Array.from({ length: 5 }, async (_, number) => {
    await pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4096, bytes });
    done.push(number);
  });
  await setImmediate();
  expect(done).toEqual([2]);
  await setImmediate();
  expect(done).toEqual([2, 3]);
  await Promise.all(jobs);
  expect(done.toSorted()).toEqual([0, 1, 2, 3, 4]);
});
