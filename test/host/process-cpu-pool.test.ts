import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import type { CpuPool } from '../../src/contracts/cpu-pool.ts';
import { processCpuPool } from '../../src/host/process-cpu-pool.ts';
import { cpuPoolContract } from '../contracts/cpu-pool.ts';

const MODULE = resolve(import.meta.dirname, '../../src/host/process-cpu-pool.ts');

/** Processes that this one started, and how each of their threads gets a processor (proc(5)). */
function children() {
  const ids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return ids.flatMap((id) => {
    try {
      if (Number(fieldsOf(`/proc/${id}/stat`)[PARENT]) !== process.pid) return [];
      const command = readFileSync(`/proc/${id}/cmdline`, 'utf8');
      if (!command.includes('cpu-pool-process')) return [];
      const threads = readdirSync(`/proc/${id}/task`).map((thread) => {
        const fields = fieldsOf(`/proc/${id}/task/${thread}/stat`);
        return { nice: Number(fields[NICE]), policy: Number(fields[POLICY]) };
      });
      return [{ id: Number(id), threads }];
    } catch {
      return []; // it has just ended
    }
  });
}
/** Of the fields of a stat, where the third stands first: what is before it may hold anything. */
const [PARENT, NICE, POLICY] = [4 - 3, 19 - 3, 41 - 3];
const fieldsOf = (path: string) => readFileSync(path, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
const IDLE = { nice: 10, policy: 5 };
const LEAST = { nice: 10, policy: 0 };

/** By themselves so much work that one process is not enough. */
function longJobs(pool: CpuPool, jobs = 50, mebibytes = 16): Promise<unknown>[] {
  const bytes = pool.memory(mebibytes * MiB).fill(1);
  const job = { hash: 'sha256', type: 'data', sliceBytes: MiB, bytes } as const;
  return Array.from({ length: jobs }, () => pool.name(job));
}

describe.skipIf(process.platform !== 'linux')('a pool of processes', () => {
  cpuPoolContract('of two', () => processCpuPool(2));
  cpuPoolContract('of one', () => processCpuPool(1));

  test('gives every other program the processors first, and is gone with its work', async () => {
    {
      await using pool = processCpuPool(2);
      expect(children()).toEqual([]);
      await Promise.all(longJobs(pool));
      const threads = children().flatMap((child) => child.threads);
      expect(threads.length).toBeGreaterThan(0);
      expect(threads).toEqual(threads.map(() => IDLE));
    }
    expect(children()).toEqual([]);
  });

  test('what is sent to all of a service leaves them at work', async () => {
    await using pool = processCpuPool(1);
    const jobs = longJobs(pool);
    await jobs[0];
    for (const { id } of children()) {
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(id, signal);
    }
    await Promise.all(jobs);
    expect(children()).toHaveLength(1);
  });

  test('one that is killed fails its jobs and says so; another does what comes later', async () => {
    await using pool = processCpuPool(1);
    const jobs = longJobs(pool).map((job) => job.catch((error: unknown) => error));
    await jobs[0];
    for (const { id } of children()) process.kill(id, 'SIGKILL');
    const ends = await Promise.all(jobs);
    const failed = ends.filter((end) => !(end instanceof Uint8Array));
    expect(failed.length).toBeGreaterThan(0);
    for (const failure of failed) {
      const message = 'a process that hashes and compresses died: it was ended by SIGKILL';
      expect(failure).toMatchObject({ code: 'ERR_IO', message });
    }
    expect(failed.length).toBeLessThan(jobs.length);
  });

  test('where others never rest one of them has a tenth of a processor, and the work is done', {
    timeout: 120_000,
  }, async () => {
    await using stack = new AsyncDisposableStack();
    for (let thread = 0; thread < 2 * availableParallelism(); thread += 1) {
      const greedy = new Worker('for (;;);', { eval: true });
      stack.defer(async () => void (await greedy.terminate()));
      await once(greedy, 'online');
    }
    await using pool = processCpuPool(2);
    await Promise.all(longJobs(pool, 40, 2));
    expect(children().flatMap(({ threads }) => threads)).toContainEqual(LEAST);
  });

  test('they end with whoever started them, also when he is killed', async () => {
    const program = `
      import { processCpuPool } from ${JSON.stringify(MODULE)};
      const pool = processCpuPool(1);
      const bytes = pool.memory(4096).fill(1);
      await pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4096, bytes });
      console.log('worked');
      setInterval(() => {}, 1000);`;
    const args = ['--input-type=module', '--eval', program];
    const parent = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const [said] = await once(createInterface({ input: parent.stdout }), 'line');
    expect(said).toBe('worked');
    const closed = once(parent.stderr.resume(), 'close');
    parent.kill('SIGKILL');
    await closed; // its child had inherited the pipe
  });
});
