import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { Deletions } from '../../src/app/deletions.ts';
import { Volumes } from '../../src/app/volumes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { scratch } from '../cluster/scratch.ts';
import { ManualClock } from '../nbd/manual-clock.ts';
import { askingStore, openTestStore } from './test-store.ts';

async function objectFiles(path: string): Promise<string[]> {
  const names = await readdir(`${path}/obj`, { recursive: true });
  return names.filter((name) => name.includes('/'));
}

/** More objects than are removed at the same time. */
const MANY = 300;
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 8_000, interval: 20 });

/** A store with a VDI of so many objects. */
async function world(objects = 4) {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const { farm, directory } = owned.use(await openTestStore(path));
  const volumes = new Volumes(directory, farm, silentLog);
  const record = await volumes.create({ name: 'demo', sizeBytes: objects * MiB, objectBytes: MiB });
  const device = await volumes.open('demo', { name: 'test', transport: 'unix' });
  for (let index = 0; index < objects; index++) {
    await device!.write(index * MiB, new Uint8Array(4096).fill(1), { durable: false });
  }
  await device![Symbol.asyncDispose]();
  expect((await objectFiles(path)).length).toBeGreaterThan(objects);
  const deletions = (store: ObjectStore = farm, clock = nodeClock()) =>
    new Deletions(directory, store, clock, silentLog);
  return {
    ...{ path, farm, directory, volumes, record, deletions },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

test('a deletion is over when no object is left', async () => {
  await using it = await world();
  await using deletions = it.deletions();
  const record = await it.volumes.delete('demo', { dryRun: false });
  await Promise.all([deletions.finish(record), deletions.finish(record)]);
  expect(await deletions.pending()).toEqual([]);
  expect(await objectFiles(it.path)).toEqual([]);
});

test('a deletion that a crash cut short is finished at the next start', async () => {
  await using it = await world();
  await it.volumes.delete('demo', { dryRun: false });
  await using deletions = it.deletions();
  expect(await deletions.pending()).toHaveLength(1);
  await deletions.start();
  await eventually(() => deletions.pending()).toEqual([]);
  expect(await objectFiles(it.path)).toEqual([]);
});

test('a disk that could not be made whole is removed at the next start', async () => {
  await using it = await world();
  const begun = Promise.withResolvers<void>();
  void it.directory.create({ name: 'half', sizeBytes: MiB, objectBytes: MiB }, () => {
    begun.resolve();
    return new Promise(() => undefined);
  });
  await begun.promise;
  await using deletions = it.deletions();
  await deletions.start();
  await eventually(() => deletions.pending()).toEqual([]);
  expect((await it.directory.list()).map((record) => record.name)).toEqual(['demo']);
  await it.directory.abandonUnfinished();
  expect(await deletions.pending()).toEqual([]); // so there was nothing left to abandon
});

test('what fails is tried again later', async () => {
  await using it = await world();
  let failures = 0;
  const store = askingStore(it.farm, (operation) => {
    if (operation !== 'remove' || failures >= 1) return;
    failures += 1;
    throw new SheepError('ERR_IO', 'not now');
  });
  const clock = new ManualClock();
  await it.volumes.delete('demo', { dryRun: false });
  await using deletions = it.deletions(store, clock);
  await deletions.start();
  await eventually(() => failures).toBe(1);
  expect(await deletions.pending()).toHaveLength(1);
  await eventually(async () => {
    await clock.pass(61_000, 1000); // also what it rests while it removes
    return deletions.pending();
  }).toEqual([]);
});

test('a stop interrupts a deletion, and says when it goes on', async () => {
  await using it = await world(MANY);
  let removed = 0;
  const first = Promise.withResolvers<void>();
  const store = askingStore(it.farm, (operation) => {
    if (operation !== 'remove') return;
    removed += 1;
    first.resolve();
  });
  const deletions = it.deletions(store);
  const finishing = deletions.finish(await it.volumes.delete('demo', { dryRun: false }));
  const outcome = expect(finishing).rejects.toMatchObject({
    code: 'ERR_SHUTDOWN',
    message: expect.stringContaining('next start'),
  });
  await first.promise;
  await deletions[Symbol.asyncDispose]();
  await outcome;
  expect(removed).toBeLessThan(MANY);
  expect(await deletions.pending()).toHaveLength(1);
});

/** demo@one and a working VDI that has changed one of its objects in part, and another wholly. */
async function withSnapshot(it: Awaited<ReturnType<typeof world>>): Promise<void> {
  await it.volumes.snapshot('demo', 'one');
  await using device = await it.volumes.open('demo', { name: 'test', transport: 'unix' });
  await device!.write(4096, new Uint8Array(4096).fill(2), { durable: false });
  await device!.write(MiB, new Uint8Array(MiB).fill(2), { durable: false });
}

test('what others of the family need stays without being pending, until they go as well', async () => {
  await using it = await world();
  await withSnapshot(it);
  await using deletions = it.deletions();
  const before = (await objectFiles(it.path)).length;
  await deletions.finish(await it.volumes.delete('demo', { snapshot: 'one', dryRun: false }));
  expect(await it.directory.deletions()).toMatchObject([{ tag: 'one' }]);
  expect(await deletions.pending()).toEqual([]);
  expect((await objectFiles(it.path)).length).toBe(before - 1);
  await deletions.finish(await it.volumes.delete('demo', { dryRun: false }));
  expect(await it.directory.all()).toEqual([]);
  expect(await objectFiles(it.path)).toEqual([]);
});

test('a deletion says how far it is, and forgets it at its end', async () => {
  await using it = await world(MANY);
  await it.volumes.snapshot('demo', 'one');
  const told: { done: number; total: number }[] = [];
  const { vid } = await it.directory.snapshotInfo({ name: 'demo', snapshot: 'one' });
  const deletions: Deletions = it.deletions(
    askingStore(it.farm, (operation) => {
      const progress = operation === 'remove' ? deletions.progress(vid) : undefined;
      if (progress !== undefined) told.push(progress);
    }),
  );
  await using _ = deletions;
  await deletions.finish(await it.volumes.delete('demo', { dryRun: false }));
  await deletions.finish(await it.volumes.delete('demo', { snapshot: 'one', dryRun: false }));
  expect(new Set(told.map(({ total }) => total))).toEqual(new Set([MANY]));
  const done = told.map((each) => each.done);
  expect(done).toEqual(done.toSorted((a, b) => a - b));
  expect(new Set(done).size).toBeGreaterThan(3);
  expect(deletions.progress(vid)).toBeUndefined();
});

test('what a rollback replaced is removed, with nobody who waits', async () => {
  await using it = await world();
  await using deletions = it.deletions();
  await using volumes = new Volumes(it.directory, it.farm, silentLog, (record) =>
    deletions.begin(record),
  );
  await withSnapshot(it);
  await volumes.rollback('demo', 'one');
  await eventually(() => it.directory.deletions()).toEqual([]);
  expect((await it.directory.all()).map(({ state }) => state)).toEqual(['snapshot', 'ready']);
});

test('a clone that could not be made goes at the next round, and nothing of its source', async () => {
  await using it = await world();
  await it.volumes.snapshot('demo', 'one');
  const before = await objectFiles(it.path);
  const full = new SheepError('ERR_NO_SPACE', 'full');
  const source = { name: 'demo', snapshot: 'one' };
  const failing = it.directory.clone(source, 'copy', () => Promise.reject(full));
  await expect(failing).rejects.toBe(full);
  await using deletions = it.deletions();
  await deletions.start();
  await eventually(() => it.directory.deletions()).toEqual([]);
  expect(await objectFiles(it.path)).toEqual(before);
});

test('a snapshot that is being cloned is not swept, and is once the clone has failed', async () => {
  await using it = await world();
  await it.volumes.snapshot('demo', 'one');
  await using deletions = it.deletions();
  await deletions.finish(await it.volumes.delete('demo', { dryRun: false }));
  const before = await objectFiles(it.path);
  const begun = Promise.withResolvers<void>();
  const full = Promise.withResolvers<void>();
  const source = { name: 'demo', snapshot: 'one' };
  const cloning = it.directory.clone(source, 'copy', () => {
    begun.resolve();
    return full.promise;
  });
  await begun.promise;
  await deletions.finish(await it.volumes.delete('demo', { snapshot: 'one', dryRun: false }));
  expect(await objectFiles(it.path)).toEqual(before);
  full.reject(new SheepError('ERR_NO_SPACE', 'full'));
  await expect(cloning).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
  for (const record of await deletions.pending()) await deletions.finish(record);
  expect(await it.directory.all()).toEqual([]);
  expect(await objectFiles(it.path)).toEqual([]);
});
