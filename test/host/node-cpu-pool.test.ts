import { expect, test } from 'vitest';
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
