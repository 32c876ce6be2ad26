import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { GiB, MiB } from '../../src/base/units.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import { scratch } from '../cluster/scratch.ts';

const clock: Clock = {
  wallMs: () => 1234.5,
  monotonicMs: () => 0,
  sleep: async () => undefined,
  yield: async () => undefined,
};
const volume = (name: string) => ({ name, sizeBytes: GiB, objectBytes: 4 * MiB });

const made = async () => undefined;
const create = (directory: VdiDirectory, name: string) => directory.create(volume(name), made);

/** A snapshot of a VDI that has no disk. */
const frozen = (directory: VdiDirectory, name: string, tag: string) =>
  directory.snapshot(name, tag, async (_child, commit) => void (await commit()));

async function fresh() {
  const owned = new AsyncDisposableStack();
  const store = owned.use(await scratch());
  const coordinator = owned.use(
    await openLocalCoordinator({
      disk: nodeDisk(),
      directory: store.path,
      clusterId: new Uint8Array(16),
      create: true,
      log: silentLog,
    }),
  );
  return {
    coordinator,
    directory: new VdiDirectory(coordinator, clock),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function overwrite(coordinator: Coordinator, key: string, text: string): Promise<void> {
  const revision = (await coordinator.get(key))?.revision ?? 0n;
  await coordinator.swap([{ key, revision, value: new TextEncoder().encode(text) }]);
}

describe('the directory of VDIs', () => {
  test('a VDI that was created is found as it was made', async () => {
    await using world = await fresh();
    const record = await create(world.directory, 'demo');
    expect(record).toEqual({
      name: 'demo',
      vid: 1,
      family: 1,
      parent: 0,
      tag: '',
      shrunkFromBytes: 0,
      sizeBytes: GiB,
      objectBytes: 4 * MiB,
      attachEpoch: 0,
      createdMs: 1234,
      allow: ['default'],
      state: 'ready',
    });
    expect(await world.directory.info('demo')).toEqual(record);
    expect(await world.directory.find('demo')).toEqual(record);
  });

  test('a name is given once', async () => {
    await using world = await fresh();
    await create(world.directory, 'demo');
    await expect(create(world.directory, 'demo')).rejects.toMatchObject({
      code: 'ERR_EXISTS',
      message: expect.stringContaining("'demo'"),
    });
    expect(await world.directory.list()).toHaveLength(1);
  });

  test('a wrong name or geometry changes nothing', async () => {
    await using world = await fresh();
    const wrong = [volume('a@b'), { ...volume('big'), sizeBytes: 2 ** 50, objectBytes: MiB }];
    for (const wanted of wrong) {
      await expect(world.directory.create(wanted, made)).rejects.toMatchObject({
        code: 'ERR_BAD_INPUT',
      });
    }
    expect((await world.coordinator.list('')).revision).toBe(0n);
  });

  test('many created at once all get a vid of their own', async () => {
    await using world = await fresh();
    const names = Array.from({ length: 30 }, (_, index) => `vm-${index}`);
    const records = await Promise.all(names.map((name) => create(world.directory, name)));
    expect(new Set(records.map((record) => record.vid)).size).toBe(30);
    const same = await Promise.allSettled(names.map(() => create(world.directory, 'same')));
    expect(same.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('a VDI has no name before its disk is made', async () => {
    await using world = await fresh();
    const { directory } = world;
    const record = await directory.create(volume('demo'), async ({ vid, state }) => {
      expect(state).toBe('making');
      expect(await directory.find('demo')).toBeUndefined();
      expect(await directory.list()).toEqual([]);
      expect(vid).toBe(1);
    });
    expect(await directory.list()).toEqual([record]);
  });

  test('a disk that could not be made leaves no name, and its objects to be removed', async () => {
    await using world = await fresh();
    const { directory } = world;
    const full = new SheepError('ERR_NO_SPACE', 'full');
    const failing = directory.create(volume('demo'), () => Promise.reject(full));
    await expect(failing).rejects.toBe(full);
    expect(await directory.find('demo')).toBeUndefined();
    expect(await directory.deletions()).toMatchObject([{ vid: 1, name: 'demo' }]);
    expect((await create(directory, 'demo')).vid).toBe(2);
  });

  test('what a crash left half made is abandoned at the next start', async () => {
    await using world = await fresh();
    const { directory } = world;
    const begun = Promise.withResolvers<void>();
    void directory.create(volume('demo'), () => {
      begun.resolve();
      return new Promise(() => undefined);
    });
    await begun.promise;
    expect(await directory.deletions()).toEqual([]);
    await directory.abandonUnfinished();
    expect(await directory.deletions()).toMatchObject([{ vid: 1, state: 'deleting' }]);
    await create(directory, 'kept');
    await directory.abandonUnfinished();
    expect((await directory.list()).map((record) => record.name)).toEqual(['kept']);
  });

  test('a list is in the order of names', async () => {
    await using world = await fresh();
    for (const name of ['b', 'a', 'C']) await create(world.directory, name);
    const names = (await world.directory.list()).map((record) => record.name);
    expect(names).toEqual(['C', 'a', 'b']);
  });

  test('each attach raises the attach epoch by one', async () => {
    await using world = await fresh();
    await create(world.directory, 'demo');
    const epochs = await Promise.all([1, 2, 3].map(() => world.directory.attach('demo')));
    expect(epochs.map((record) => record.attachEpoch).sort()).toEqual([1, 2, 3]);
    expect((await world.directory.info('demo')).attachEpoch).toBe(3);
  });

  test('what is not there is named, and how to see what is', async () => {
    await using world = await fresh();
    expect(await world.directory.find('nothing')).toBeUndefined();
    for (const operation of ['info', 'attach', 'delete'] as const) {
      await expect(world.directory[operation]('nothing')).rejects.toMatchObject({
        code: 'ERR_NOT_FOUND',
        message: expect.stringMatching(/'nothing'.*collie vdi list/),
      });
    }
  });

  test('a deleted VDI has no name at once, and is listed until its objects are gone', async () => {
    await using world = await fresh();
    const { directory } = world;
    await create(directory, 'kept');
    await create(world.directory, 'demo');
    const deleting = await directory.delete('demo');
    expect(deleting).toMatchObject({ vid: 2, state: 'deleting' });
    expect(await directory.find('demo')).toBeUndefined();
    expect((await directory.list()).map((record) => record.name)).toEqual(['kept']);
    expect(await directory.deletions()).toEqual([deleting]);
    await directory.forget(deleting.vid);
    await directory.forget(deleting.vid);
    expect(await directory.deletions()).toEqual([]);
  });

  test('the vid of a deleted VDI is never given again, nor is its name taken', async () => {
    await using world = await fresh();
    const { directory } = world;
    await create(world.directory, 'demo');
    const deleting = await directory.delete('demo');
    const again = await create(world.directory, 'demo');
    expect(again.vid).toBe(deleting.vid + 1);
    await directory.forget(deleting.vid);
    expect(await directory.info('demo')).toEqual(again);
    await directory.forget((await directory.delete('demo')).vid);
    expect((await create(world.directory, 'demo')).vid).toBe(again.vid + 1);
  });

  test('of several deletions of one VDI one succeeds', async () => {
    await using world = await fresh();
    await create(world.directory, 'demo');
    const all = await Promise.allSettled([1, 2, 3].map(() => world.directory.delete('demo')));
    expect(all.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('a live VDI is never forgotten', async () => {
    await using world = await fresh();
    const { vid } = await create(world.directory, 'demo');
    await expect(world.directory.forget(vid)).rejects.toThrow('only the deleted');
    expect(await world.directory.info('demo')).toMatchObject({ vid });
  });

  test('a snapshot that is deleted while it is being cloned begins no clone', async () => {
    await using world = await fresh();
    const { directory } = world;
    await create(directory, 'demo');
    const snapshot = await frozen(directory, 'demo', 'one');
    const source = { name: 'demo', snapshot: 'one' };
    const both = await Promise.allSettled([
      directory.clone(source, 'copy', made),
      directory.deleteSnapshot(source),
    ]);
    const states = (await directory.family(snapshot.family)).map(({ state }) => state);
    if (both[0].status === 'fulfilled') expect(states).toEqual(['deleting', 'ready', 'ready']);
    else {
      expect(both[0].reason).toMatchObject({ code: expect.stringMatching(/BUSY|NOT_FOUND/) });
      expect(states).toEqual(['deleting', 'ready']);
    }
  });

  test('what is forgotten leaves its children to its parent', async () => {
    await using world = await fresh();
    const { directory } = world;
    await create(directory, 'demo');
    const one = await frozen(directory, 'demo', 'one');
    const two = await frozen(directory, 'demo', 'two');
    const copy = await directory.clone({ name: 'demo', snapshot: 'two' }, 'copy', made);
    await directory.deleteSnapshot({ name: 'demo', snapshot: String(two.vid) });
    await directory.forget(two.vid);
    const parents = (await directory.all()).map(({ name, parent }) => `${name} ${parent}`);
    expect(parents).toEqual(['demo 0', `demo ${one.vid}`, `copy ${one.vid}`]);
    // Also by a copy of the record from before.
    expect((await directory.ancestors(copy)).map(({ vid }) => vid)).toEqual([one.vid]);
  });

  test('the tag of a deleted snapshot is free again, and its ID is not', async () => {
    await using world = await fresh();
    const { directory } = world;
    await create(directory, 'demo');
    const first = await frozen(directory, 'demo', 'one');
    await directory.deleteSnapshot({ name: 'demo', snapshot: 'one' });
    const second = await frozen(directory, 'demo', 'one');
    expect(second.vid).not.toBe(first.vid);
    expect(await directory.findSnapshot('demo', 'one')).toEqual(second);
    expect(await directory.findSnapshot('demo', String(first.vid))).toBeUndefined();
    expect(await directory.findSnapshot('other', String(second.vid))).toBeUndefined();
    expect(await directory.findSnapshot('demo', '99999999999')).toBeUndefined();
  });

  test('snapshots and names of others are not mixed up', async () => {
    await using world = await fresh();
    const { directory } = world;
    for (const name of ['demo', 'demo2']) await create(directory, name);
    await frozen(directory, 'demo2', 'b');
    await frozen(directory, 'demo', 'z');
    await frozen(directory, 'demo', 'a');
    const named = (await directory.snapshots()).map(({ name, tag }) => `${name}@${tag}`);
    expect(named).toEqual(['demo@z', 'demo@a', 'demo2@b']);
    expect((await directory.snapshots('demo2')).map(({ tag }) => tag)).toEqual(['b']);
    await directory.delete('demo2');
    await expect(create(directory, 'demo2')).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await directory.deleteSnapshot({ name: 'demo2', snapshot: 'b' });
    await create(directory, 'demo2');
  });

  test('the last vid is given, and then no more', async () => {
    await using world = await fresh();
    await overwrite(world.coordinator, 'vdi/next-vid', String(2 ** 32 - 1));
    expect((await create(world.directory, 'last')).vid).toBe(2 ** 32 - 1);
    await expect(create(world.directory, 'more')).rejects.toMatchObject({
      code: 'ERR_LIMIT',
    });
  });

  test('a last attach epoch is never followed by an earlier one', async () => {
    await using world = await fresh();
    await create(world.directory, 'demo');
    const key = 'vdi/records/00000001';
    const text = new TextDecoder().decode((await world.coordinator.get(key))!.value);
    await overwrite(
      world.coordinator,
      key,
      text.replace('"attachEpoch":0', '"attachEpoch":4294967295'),
    );
    await expect(world.directory.attach('demo')).rejects.toMatchObject({ code: 'ERR_LIMIT' });
  });

  test.for<[string, string]>([
    ['vdi/next-vid', 'x'],
    ['vdi/next-vid', '0'],
    ['vdi/names/demo', '00000007'],
    ['vdi/names/demo', '1'],
    ['vdi/tags/demo@one', '00000001'],
    ['vdi/tags/demo@one', 'x'],
    ['vdi/records/00000001', '{}'],
  ])('a directory in which %s is %s is damaged, and says so', async ([key, text]) => {
    await using world = await fresh();
    await create(world.directory, 'demo');
    await overwrite(world.coordinator, key, text);
    const use = async () => {
      await world.directory.info('demo');
      await world.directory.findSnapshot('demo', 'one');
      await create(world.directory, 'other');
    };
    await expect(use()).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
  });
});
