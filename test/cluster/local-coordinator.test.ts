import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { LOG_NAME, openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { coordinatorContract } from '../contracts/coordinator.ts';
import { faultyDisk } from './faulty-disk.ts';
import { scratch } from './scratch.ts';

const clusterId = new Uint8Array(16).fill(7);
const bytes = (text: string) => new TextEncoder().encode(text);

function open(directory: string, disk: Disk = nodeDisk(), create = true): Promise<Coordinator> {
  return openLocalCoordinator({ disk, directory, clusterId, create, log: silentLog });
}

async function set(coordinator: Coordinator, key: string, value: string): Promise<void> {
  const revision = (await coordinator.get(key))?.revision ?? 0n;
  expect(await coordinator.swap([{ key, revision, value: bytes(value) }])).toBe(true);
}

async function shown(coordinator: Coordinator): Promise<Record<string, string>> {
  const { entries } = await coordinator.list('');
  return Object.fromEntries(
    entries.map(({ key, value }) => [key, new TextDecoder().decode(value)]),
  );
}

coordinatorContract('the local coordinator', async () => {
  const directory = await scratch();
  const opened = [await open(directory.path)];
  return {
    coordinator: opened[0]!,
    restart: async () => {
      // The one before keeps its file open, as a process that is being killed; it writes no more.
      opened.push(await open(directory.path));
      return opened.at(-1)!;
    },
    [Symbol.asyncDispose]: async () => {
      for (const coordinator of opened) await coordinator[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
});

coordinatorContract('the local coordinator on a simulated disk', async () => {
  const disk = new SimDisk({ directories: ['/store'] });
  return {
    coordinator: await open('/store', disk),
    restart: () => open('/store', disk.kill()),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
});

describe('the log', () => {
  test('changes of one moment share one sync', async () => {
    await using directory = await scratch();
    let syncs = 0;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (operation === 'sync') syncs += 1;
    });
    await using coordinator = await open(directory.path, disk);
    syncs = 0;
    const swaps = Array.from({ length: 100 }, (_, index) =>
      coordinator.swap([{ key: `k${index}`, revision: 0n, value: bytes('v') }]),
    );
    expect(await Promise.all(swaps)).toEqual(Array.from({ length: 100 }, () => true));
    expect(syncs).toBe(1);
    expect((await coordinator.list('')).revision).toBe(100n);
  });

  test('no change is shown before it survives', async () => {
    await using directory = await scratch();
    const seen: unknown[] = [];
    let coordinator: Coordinator | undefined;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (operation === 'sync') void coordinator?.get('a').then((entry) => seen.push(entry));
    });
    coordinator = await open(directory.path, disk);
    await using closing = coordinator;
    await set(closing, 'a', '1');
    expect(seen).toEqual([undefined]);
  });

  test('it stays small however often a key changes, and keeps every revision', async () => {
    await using directory = await scratch();
    await using coordinator = await open(directory.path);
    await set(coordinator, 'kept', 'from the beginning');
    const value = 'x'.repeat(60_000);
    for (let round = 0; round < 40; round++) await set(coordinator, 'changing', `${round}${value}`);
    const before = await coordinator.list('');
    expect(before.revision).toBe(41n);
    expect((await stat(`${directory.path}/${LOG_NAME}`)).size).toBeLessThan(1024 * 1024);
    await coordinator[Symbol.asyncDispose]();
    await using again = await open(directory.path);
    expect(await again.list('')).toEqual(before);
    const tooOld = again.watch('', 1n)[Symbol.asyncIterator]();
    await expect(tooOld.next()).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });

  test('a watch that is further behind than the history is told to list again', async () => {
    await using directory = await scratch();
    await using coordinator = await open(directory.path);
    const change = (index: number) =>
      coordinator.swap([{ key: `k${index}`, revision: 0n, value: bytes('v') }]);
    await Promise.all(Array.from({ length: 9000 }, (_, index) => change(index)));
    const behind = coordinator.watch('', 0n)[Symbol.asyncIterator]();
    await expect(behind.next()).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    const recent = coordinator.watch('', 8999n)[Symbol.asyncIterator]();
    expect((await recent.next()).value).toMatchObject({ revision: 9000n });
  });

  test('a store with objects and no log is refused, not begun anew', async () => {
    await using directory = await scratch();
    await expect(open(directory.path, nodeDisk(), false)).rejects.toMatchObject({
      code: 'ERR_MISSING',
      message: expect.stringContaining(`${directory.path}/${LOG_NAME}`),
    });
  });

  test('after a failed sync nothing is tried again and nothing is answered', async () => {
    await using directory = await scratch();
    let failing = false;
    let syncs = 0;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (operation !== 'sync') return;
      syncs += 1;
      if (failing) throw new SheepError('ERR_NO_SPACE', 'no room for what was promised');
    });
    await using coordinator = await open(directory.path, disk);
    await set(coordinator, 'a', '1');
    const lease = await coordinator.lease('node', bytes('here'), 1000);
    const watching = coordinator.watch('', 2n)[Symbol.asyncIterator]().next();
    failing = true;
    const swap = (key: string) => coordinator.swap([{ key, revision: 0n, value: bytes('2') }]);
    const settled = await Promise.allSettled([swap('b'), swap('c')]);
    failing = false;
    const refused = { code: 'ERR_IO', message: expect.stringContaining(LOG_NAME) };
    expect(settled).toMatchObject([{ reason: refused }, { reason: refused }]);
    const syncsSoFar = syncs;
    await expect(swap('d')).rejects.toMatchObject(refused);
    await expect(coordinator.get('a')).rejects.toMatchObject(refused);
    await expect(watching).rejects.toMatchObject(refused);
    expect(lease.lost.aborted).toBe(true);
    expect(syncs).toBe(syncsSoFar);
  });

  test('a full disk refuses a change, keeps the log whole, and the next one may succeed', async () => {
    await using directory = await scratch();
    let full = false;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (full && operation !== 'sync') throw new SheepError('ERR_NO_SPACE', 'full');
    });
    await using coordinator = await open(directory.path, disk);
    await set(coordinator, 'a', '1');
    full = true;
    const swap = coordinator.swap([{ key: 'b', revision: 0n, value: bytes('2') }]);
    await expect(swap).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    expect(await shown(coordinator)).toEqual({ a: '1' });
    full = false;
    await set(coordinator, 'c', '3');
    await coordinator[Symbol.asyncDispose]();
    await using again = await open(directory.path);
    expect(await shown(again)).toEqual({ a: '1', c: '3' });
  });

  test('what was written while nothing could be reserved is left alone by the next reserve', async () => {
    await using directory = await scratch();
    let full = true;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (full && operation === 'zero') throw new SheepError('ERR_NO_SPACE', 'full');
    });
    await using coordinator = await open(directory.path, disk);
    await set(coordinator, 'a', '1');
    await set(coordinator, 'b', '2');
    full = false;
    await set(coordinator, 'c', '3');
    await coordinator[Symbol.asyncDispose]();
    await using again = await open(directory.path);
    expect(await shown(again)).toEqual({ a: '1', b: '2', c: '3' });
  });

  test('space for deletions is reserved, so that a full disk can be emptied', async () => {
    await using directory = await scratch();
    let full = false;
    const disk = faultyDisk(nodeDisk(), (operation) => {
      if (full && operation === 'zero') throw new SheepError('ERR_NO_SPACE', 'full');
    });
    await using coordinator = await open(directory.path, disk);
    full = true;
    const path = `${directory.path}/${LOG_NAME}`;
    const before = await stat(path);
    for (let round = 0; round < 300; round++) await set(coordinator, 'a', `${round}`);
    const after = await stat(path);
    expect(after.blocks).toBe(before.blocks);
    expect(after.size).toBe(before.size);
  });
});

describe('a log that is not as it was written', () => {
  /** A store with three settled changes, and where the last record begins and ends. */
  async function written(directory: string): Promise<{ path: string; last: [number, number] }> {
    const path = `${directory}/${LOG_NAME}`;
    const coordinator = await open(directory);
    await set(coordinator, 'a', '1');
    await set(coordinator, 'b', '2');
    const end = async () => (await readFile(path)).findLastIndex((byte) => byte !== 0) + 1;
    const from = await end();
    await set(coordinator, 'c', 'the last of them '.repeat(90));
    await coordinator[Symbol.asyncDispose]();
    return { path, last: [from, await end()] };
  }

  test('an unfinished last record is cut off, wherever the file ends', async () => {
    await using directory = await scratch();
    const { path, last } = await written(directory.path);
    const whole = await readFile(path);
    for (let size = last[0]; size < last[1]; size += 7) {
      await writeFile(path, whole);
      await truncate(path, size);
      await using coordinator = await open(directory.path);
      expect(await shown(coordinator)).toEqual({ a: '1', b: '2' });
      await set(coordinator, 'd', '4');
      await coordinator[Symbol.asyncDispose]();
      await using again = await open(directory.path);
      expect(await shown(again)).toEqual({ a: '1', b: '2', d: '4' });
    }
  });

  test('an unfinished last record is cut off, whichever of its sectors was not written', async () => {
    await using directory = await scratch();
    const { path, last } = await written(directory.path);
    const whole = await readFile(path);
    expect(last[1] - last[0]).toBeGreaterThan(2 * 512);
    for (let at = 0; at < last[1]; at += 512) {
      if (at + 512 <= last[0]) continue;
      const torn = Uint8Array.from(whole);
      await writeFile(path, torn.fill(0, Math.max(at, last[0]), Math.min(at + 512, last[1])));
      await using coordinator = await open(directory.path);
      expect(await shown(coordinator)).toEqual({ a: '1', b: '2' });
    }
  });

  test('a changed bit anywhere is found, named with its place, and the file is left alone', async () => {
    await using directory = await scratch();
    const { path, last } = await written(directory.path);
    const whole = await readFile(path);
    for (let at = 0; at < last[1]; at += 5) {
      const changed = Uint8Array.from(whole);
      changed[at]! ^= 1 << (at % 8);
      await writeFile(path, changed);
      await expect(open(directory.path), `byte ${at}`).rejects.toMatchObject({
        code: 'ERR_CORRUPT',
        message: expect.stringContaining(`${path} is damaged at byte `),
        facts: { path, offset: expect.any(Number) },
      });
      expect((await readFile(path)).equals(changed)).toBe(true);
    }
  });

  test('a record that is missing between two others is damage', async () => {
    await using directory = await scratch();
    const { path, last } = await written(directory.path);
    const whole = await readFile(path);
    whole.fill(0, last[0] - 40, last[0]);
    await writeFile(path, whole);
    await expect(open(directory.path)).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining(`before a sound one at ${last[0]}`),
    });
  });

  test('a log that grew beyond all measure is refused before it is read', async () => {
    await using directory = await scratch();
    const { path } = await written(directory.path);
    await truncate(path, 2 ** 40);
    await expect(open(directory.path)).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining(`${path} has 1099511627776 bytes`),
    });
  });

  test('a log of another cluster is refused with both named', async () => {
    await using directory = await scratch();
    await written(directory.path);
    const other = openLocalCoordinator({
      disk: nodeDisk(),
      directory: directory.path,
      clusterId: new Uint8Array(16).fill(8),
      create: true,
      log: silentLog,
    });
    await expect(other).rejects.toMatchObject({
      code: 'ERR_VERSION',
      message: expect.stringMatching(/07070707.*08080808/),
    });
  });
});
