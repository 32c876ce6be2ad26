import { describe, expect, test } from 'vitest';
import { Volumes } from '../../src/app/volumes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Client } from '../../src/contracts/exports.ts';
import { scratch } from '../cluster/scratch.ts';
import type { LogEvent } from './test-sheep.ts';
import { askingStore, openTestStore } from './test-store.ts';

const one: Client = { name: '127.0.0.1:1111', transport: 'tcp' };
const other: Client = { name: 'unix:/run/nbd', transport: 'unix' };

async function world() {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const { farm, directory } = owned.use(await openTestStore(path));
  const events: LogEvent[] = [];
  const state = { flushes: 0, failing: false };
  const store = askingStore(farm, (operation) => {
    if (operation !== 'flush') return;
    state.flushes += 1;
    if (state.failing) throw new SheepError('ERR_IO', 'the disk is gone');
  });
  const log = {
    event: (level: LogEvent['level'], name: string, facts = {}) => {
      events.push({ level, name, facts });
    },
  };
  const volumes = owned.use(new Volumes(directory, store, log));
  await volumes.create({ name: 'demo', sizeBytes: 64 * MiB, objectBytes: MiB });
  return { volumes, directory, events, state, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function write(device: BlockDevice, at: number, value: number): Promise<void> {
  await device.write(at, new Uint8Array(4096).fill(value), { durable: false });
}
async function read(device: BlockDevice, at: number): Promise<number> {
  const into = new Uint8Array(1);
  await device.read(at, into);
  return into[0]!;
}

describe('VDIs as exports', () => {
  test('are listed and described without being opened', async () => {
    await using it = await world();
    const description = 'VDI demo';
    expect(await it.volumes.list()).toEqual([{ name: 'demo', description, allow: ['default'] }]);
    expect(await it.volumes.info('demo')).toEqual({
      sizeBytes: 64 * MiB,
      readOnly: false,
      description,
      contexts: ['qemu:allocation-depth'],
    });
    expect((await it.directory.info('demo')).attachEpoch).toBe(0);
  });

  test.for(['other', 'demo@tag', 'demo+writeback', '', 'DEMO'])(
    'a name that is not there is unknown: %j',
    async (name) => {
      await using it = await world();
      expect(await it.volumes.info(name)).toBeUndefined();
      expect(await it.volumes.open(name, one)).toBeUndefined();
    },
  );

  test('all clients of a VDI share it: what one wrote the other reads', async () => {
    await using it = await world();
    const [first, second] = await Promise.all([
      it.volumes.open('demo', one),
      it.volumes.open('demo', other),
    ]);
    await write(first!, 8192, 7);
    expect(await read(second!, 8192)).toBe(7);
    expect((await it.directory.info('demo')).attachEpoch).toBe(1);
    expect(it.volumes.clients('demo')).toEqual([one, other]);
  });

  test('it is flushed and closed after the last of them, and not before', async () => {
    await using it = await world();
    const first = await it.volumes.open('demo', one);
    const second = await it.volumes.open('demo', one);
    await write(first!, 0, 7);
    it.state.flushes = 0;
    await first![Symbol.asyncDispose]();
    await first![Symbol.asyncDispose]();
    expect(it.state.flushes).toBe(0);
    expect(it.volumes.clients('demo')).toEqual([one]);
    await second![Symbol.asyncDispose]();
    expect(it.state.flushes).toBeGreaterThan(0);
    expect(it.volumes.clients('demo')).toEqual([]);
    const again = await it.volumes.open('demo', other);
    expect(await read(again!, 0)).toBe(7);
    expect((await it.directory.info('demo')).attachEpoch).toBe(2);
  });

  test('clients that come and go at the same time always find it open', async () => {
    await using it = await world();
    const visit = async (at: number) => {
      const device = await it.volumes.open('demo', one);
      await write(device!, at * 4096, at);
      await device![Symbol.asyncDispose]();
    };
    await Promise.all(Array.from({ length: 30 }, (_, index) => visit(index)));
    const device = await it.volumes.open('demo', one);
    for (const at of [1, 15, 29]) expect(await read(device!, at * 4096)).toBe(at);
  });

  test('a first client that fails leaves nothing open', async () => {
    await using it = await world();
    const ancestors = it.directory.ancestors.bind(it.directory);
    let asked = 0;
    it.directory.ancestors = (record) => {
      asked += 1; // once to open the VDI, and once to describe it
      if (asked === 2) throw new SheepError('ERR_IO', 'the coordinator is gone');
      return ancestors(record);
    };
    await expect(it.volumes.open('demo', one)).rejects.toMatchObject({ code: 'ERR_IO' });
    expect(it.events.map(({ name }) => name)).toEqual(['vdi.attached', 'vdi.detached']);
    expect(it.volumes.clients('demo')).toEqual([]);
    expect(await it.volumes.open('demo', one)).toBeDefined();
  });

  test('a last flush that fails is told in the log, and the VDI can be attached again', async () => {
    await using it = await world();
    const device = await it.volumes.open('demo', one);
    await write(device!, 0, 7);
    it.state.failing = true;
    await device![Symbol.asyncDispose]();
    it.state.failing = false;
    expect(it.events).toContainEqual({
      level: 'error',
      name: 'vdi.last-flush-failed',
      facts: { vdi: 'demo', cause: 'the disk is gone' },
    });
    expect(await it.volumes.open('demo', one)).toBeDefined();
  });

  test('what a connection left open is flushed at the end', async () => {
    await using it = await world();
    const device = await it.volumes.open('demo', one);
    await write(device!, 0, 7);
    it.state.flushes = 0;
    await it.volumes[Symbol.asyncDispose]();
    expect(it.state.flushes).toBeGreaterThan(0);
    await device![Symbol.asyncDispose]();
    expect(it.volumes.clients('demo')).toEqual([]);
  });
});

describe('deleting', () => {
  test('is refused while clients use the VDI, and names them', async () => {
    await using it = await world();
    const device = await it.volumes.open('demo', one);
    await it.volumes.open('demo', other);
    for (const dryRun of [true, false]) {
      await expect(it.volumes.delete('demo', { dryRun })).rejects.toMatchObject({
        code: 'ERR_BUSY',
        message: expect.stringContaining('127.0.0.1:1111, unix:/run/nbd'),
      });
    }
    await write(device!, 0, 7);
    expect(await read(device!, 0)).toBe(7);
  });

  test('takes the name away, and a dry run takes nothing', async () => {
    await using it = await world();
    expect(await it.volumes.delete('demo', { dryRun: true })).toMatchObject({ state: 'ready' });
    expect(await it.volumes.info('demo')).toBeDefined();
    expect(await it.volumes.delete('demo', { dryRun: false })).toMatchObject({ state: 'deleting' });
    expect(await it.volumes.info('demo')).toBeUndefined();
    expect(await it.volumes.open('demo', one)).toBeUndefined();
    await expect(it.volumes.delete('demo', { dryRun: false })).rejects.toMatchObject({
      code: 'ERR_NOT_FOUND',
    });
  });
});

test('objects are counted with and without a client', async () => {
  await using it = await world();
  expect(await it.volumes.countObjects('demo')).toEqual({ own: 0, all: 0 });
  const device = await it.volumes.open('demo', one);
  await write(device!, 0, 1);
  await write(device!, 10 * MiB, 1);
  expect(await it.volumes.countObjects('demo')).toEqual({ own: 2, all: 2 });
  await device![Symbol.asyncDispose]();
  expect(await it.volumes.countObjects('demo')).toEqual({ own: 2, all: 2 });
  expect((await it.directory.info('demo')).attachEpoch).toBe(1);
});

test('of one that is deleted meanwhile nothing is counted', async () => {
  await using it = await world();
  const info = it.directory.info.bind(it.directory);
  it.directory.info = async (name) => {
    it.directory.info = info;
    const found = await info(name);
    await it.volumes.delete('demo', { dryRun: false });
    return found;
  };
  await expect(it.volumes.countObjects('demo')).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});
