import { describe, expect, test } from 'vitest';
import { Volumes } from '../../src/app/volumes.ts';
import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Client } from '../../src/contracts/exports.ts';
import { scratch } from '../cluster/scratch.ts';
import { openTestStore } from './test-store.ts';

const one: Client = { name: '127.0.0.1:1111', transport: 'tcp' };
const DO = { dryRun: false };
const B = 4 * KiB;

async function world() {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const { farm, directory } = owned.use(await openTestStore(path));
  const volumes = owned.use(new Volumes(directory, farm, silentLog));
  await volumes.create({ name: 'demo', sizeBytes: 4 * MiB, objectBytes: MiB });
  return { volumes, directory, farm, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function open(volumes: Volumes, name: string): Promise<BlockDevice> {
  const device = await volumes.open(name, one);
  if (device === undefined) throw new Error(`there is no ${name}`);
  return device;
}
const write = async (device: BlockDevice, block: number, value: number, count = 1) =>
  device.write(block * B, new Uint8Array(count * B).fill(value), { durable: false });
async function read(device: BlockDevice, block: number): Promise<number> {
  const into = new Uint8Array(1);
  await device.read(block * B, into);
  return into[0] ?? -1;
}
/** Writes one block of a VDI that nobody uses. */
async function put(volumes: Volumes, name: string, block: number, value: number): Promise<void> {
  await using device = await open(volumes, name);
  await write(device, block, value);
}

/** Refused with this code, in words that hold what was given and what to do. */
async function refused(run: Promise<unknown>, code: FaultCode, words: RegExp): Promise<void> {
  await expect(run).rejects.toMatchObject({ code, message: expect.stringMatching(words) });
}

describe('snapshots as exports', () => {
  test('are listed, described and read by tag and by ID, and cannot be written', async () => {
    await using it = await world();
    await put(it.volumes, 'demo', 0, 7);
    const { vid } = await it.volumes.snapshot('demo', 'monday');
    await put(it.volumes, 'demo', 0, 8);
    expect(await it.volumes.list()).toEqual([
      { name: 'demo', description: 'VDI demo', allow: ['default'] },
      { name: 'demo@monday', description: 'snapshot demo@monday', allow: ['default'] },
    ]);
    for (const name of ['demo@monday', `demo@${vid}`]) {
      expect(await it.volumes.info(name)).toMatchObject({ sizeBytes: 4 * MiB, readOnly: true });
      await using device = await open(it.volumes, name);
      expect(await read(device, 0)).toBe(7);
      const changes = [
        () => write(device, 0, 1),
        () => device.trim(0, B, { durable: false }),
        () => device.writeZeroes(0, B, { durable: false, keepAllocated: false, fastOnly: false }),
      ];
      for (const change of changes) {
        await refused(
          Promise.resolve().then(change),
          'ERR_READ_ONLY',
          /demo@monday cannot be written; clone it/,
        );
      }
      await device.flush();
      expect(await read(device, 0)).toBe(7);
    }
    expect(await it.volumes.info('demo')).toMatchObject({
      contexts: ['qemu:allocation-depth', 'qemu:dirty-bitmap:monday'],
    });
  });

  test('several are open at once, while their VDI is written', async () => {
    await using it = await world();
    await using working = await open(it.volumes, 'demo');
    for (const tag of ['a', 'b', 'c']) {
      await write(working, 3, tag.charCodeAt(0));
      await it.volumes.snapshot('demo', tag);
    }
    await write(working, 3, 1);
    await using a = await open(it.volumes, 'demo@a');
    await using b = await open(it.volumes, 'demo@b');
    await using c = await open(it.volumes, 'demo@c');
    expect(await Promise.all([a, b, c, working].map((each) => read(each, 3)))).toEqual([
      ...[97, 98, 99],
      1,
    ]);
  });

  test.for(['demo@', 'demo@tuesday', 'demo@999', 'demo@0', 'demo@1', '@monday', 'other@monday'])(
    'a name of which there is none is unknown: %s',
    async (name) => {
      await using it = await world();
      await it.volumes.snapshot('demo', 'monday');
      await it.volumes.snapshot('demo', 'wednesday');
      await it.volumes.delete('demo', { ...DO, snapshot: 'monday' });
      expect(await it.volumes.info(name)).toBeUndefined();
      expect(await it.volumes.open(name, one)).toBeUndefined();
    },
  );

  test('one that a client uses cannot be deleted, and the client is named', async () => {
    await using it = await world();
    const { vid } = await it.volumes.snapshot('demo', 'monday');
    const device = await open(it.volumes, `demo@${vid}`);
    expect(it.volumes.clients('demo@monday')).toEqual([one]);
    expect(it.volumes.clients('demo')).toEqual([]);
    for (const dryRun of [true, false]) {
      await refused(
        it.volumes.delete('demo', { snapshot: 'monday', dryRun }),
        'ERR_BUSY',
        /snapshot 'demo@monday' is used by 127\.0\.0\.1:1111; disconnect it there, then delete it/,
      );
    }
    await device[Symbol.asyncDispose]();
    await it.volumes.delete('demo', { snapshot: 'monday', dryRun: true });
    await it.volumes.delete('demo', { snapshot: String(vid), ...DO });
    expect(await it.volumes.info('demo@monday')).toBeUndefined();
  });
});

describe('bad input changes nothing', () => {
  test('a tag twice, a tag of digits, a snapshot of nothing', async () => {
    await using it = await world();
    await it.volumes.snapshot('demo', 'monday');
    const before = await it.directory.all();
    const words = /'demo' has a snapshot 'monday' already.*vdi delete -s monday demo/;
    await refused(it.volumes.snapshot('demo', 'monday'), 'ERR_EXISTS', words);
    await refused(it.volumes.snapshot('demo', '42'), 'ERR_BAD_INPUT', /"42" is all digits.*v42/);
    await refused(it.volumes.snapshot('demo', ''), 'ERR_BAD_INPUT', /needs a tag/);
    await refused(it.volumes.snapshot('demo', 'a@b'), 'ERR_BAD_INPUT', /the tag "a@b" contains/);
    await refused(it.volumes.snapshot('none', 'x'), 'ERR_NOT_FOUND', /no VDI 'none'.*vdi list/);
    expect(await it.directory.all()).toEqual(before);
  });

  test('of two snapshots with one tag at once one is made', async () => {
    await using it = await world();
    const both = await Promise.allSettled([1, 2].map(() => it.volumes.snapshot('demo', 'monday')));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await it.directory.snapshots()).toHaveLength(1);
  });

  test('a clone onto a name in use, of nothing, or with a name that can be none', async () => {
    await using it = await world();
    await it.volumes.snapshot('demo', 'monday');
    const source = { name: 'demo', snapshot: 'monday' };
    await refused(it.volumes.clone(source, 'demo'), 'ERR_EXISTS', /a VDI 'demo' already/);
    await refused(it.volumes.clone(source, 'a b'), 'ERR_BAD_INPUT', /"a b" contains a space/);
    const none = { name: 'demo', snapshot: 'tuesday' };
    await refused(it.volumes.clone(none, 'new'), 'ERR_NOT_FOUND', /no snapshot 'tuesday'/);
    const byId = { name: 'demo', snapshot: '77' };
    await refused(it.volumes.clone(byId, 'new'), 'ERR_NOT_FOUND', /no snapshot with the ID 77/);
    expect(await it.directory.list()).toHaveLength(1);
  });

  test('a name whose VDI is gone is kept for its snapshots, and rollback brings it back', async () => {
    await using it = await world();
    await put(it.volumes, 'demo', 2, 9);
    const { vid } = await it.volumes.snapshot('demo', 'monday');
    await it.volumes.delete('demo', DO);
    const wanted = { name: 'demo', sizeBytes: MiB, objectBytes: MiB };
    const words = /'demo' was deleted, but has snapshots \(monday\).*rollback -s monday demo/;
    await refused(it.volumes.create(wanted), 'ERR_EXISTS', words);
    await refused(
      it.volumes.clone({ name: 'demo', snapshot: String(vid) }, 'demo'),
      'ERR_EXISTS',
      words,
    );
    await it.volumes.rollback('demo', 'monday');
    await using device = await open(it.volumes, 'demo');
    expect(await read(device, 2)).toBe(9);
  });

  test('a VDI in use is neither rolled back nor shrunk nor deleted, and its client is named', async () => {
    await using it = await world();
    await it.volumes.snapshot('demo', 'monday');
    await using device = await open(it.volumes, 'demo');
    await write(device, 600, 5);
    for (const dryRun of [true, false]) {
      const used = /VDI 'demo' is used by 127\.0\.0\.1:1111; disconnect it there, then/;
      await refused(it.volumes.rollback('demo', 'monday', { dryRun }), 'ERR_BUSY', used);
      await refused(it.volumes.resize('demo', MiB, { dryRun }), 'ERR_BUSY', used);
      await refused(it.volumes.delete('demo', { dryRun }), 'ERR_BUSY', used);
    }
    expect(await read(device, 600)).toBe(5);
  });

  test('a size that cannot be', async () => {
    await using it = await world();
    for (const size of [0, 4095, 4097, -4096, 2 ** 51, Number.NaN]) {
      await refused(it.volumes.resize('demo', size, DO), 'ERR_BAD_INPUT', /cannot have/);
    }
    const large = it.volumes.resize('demo', 2 ** 50, DO);
    await refused(large, 'ERR_BAD_INPUT', /more than 2\^28 objects/);
    await refused(it.volumes.resize('none', MiB, DO), 'ERR_NOT_FOUND', /no VDI 'none'/);
    expect((await it.directory.info('demo')).sizeBytes).toBe(4 * MiB);
  });

  test('a dry run changes nothing', async () => {
    await using it = await world();
    await it.volumes.snapshot('demo', 'monday');
    const before = await it.directory.all();
    const dry = { dryRun: true };
    expect(await it.volumes.resize('demo', MiB, dry)).toMatchObject({ sizeBytes: MiB });
    expect(await it.volumes.rollback('demo', 'monday', dry)).toMatchObject({ tag: 'monday' });
    await it.volumes.delete('demo', dry);
    await it.volumes.delete('demo', { ...dry, snapshot: 'monday' });
    expect(await it.directory.all()).toEqual(before);
  });
});

describe('resizing', () => {
  test('a VDI in use grows; who connects anew sees it, and what lies behind reads as zeroes', async () => {
    await using it = await world();
    await using old = await open(it.volumes, 'demo');
    await write(old, 1023, 5);
    await it.volumes.resize('demo', 6 * MiB, DO);
    expect(old.info.sizeBytes).toBe(4 * MiB);
    await using anew = await open(it.volumes, 'demo');
    expect(anew.info.sizeBytes).toBe(6 * MiB);
    await write(anew, 1535, 6);
    expect([await read(anew, 1023), await read(anew, 1024), await read(old, 1023)]).toEqual([
      ...[5, 0],
      5,
    ]);
  });

  test('what a shrink has cut off does not come back, and its snapshots keep it', async () => {
    await using it = await world();
    for (const block of [0, 300, 600, 1023]) await put(it.volumes, 'demo', block, 5);
    await it.volumes.snapshot('demo', 'whole');
    await put(it.volumes, 'demo', 301, 6);
    const shrunk = await it.volumes.resize('demo', MiB + 44 * B, DO);
    expect(shrunk).toMatchObject({ sizeBytes: MiB + 44 * B, shrunkFromBytes: 0 });
    await it.volumes.resize('demo', 4 * MiB, DO);
    await using device = await open(it.volumes, 'demo');
    const shown = await Promise.all([0, 300, 301, 600, 1023].map((block) => read(device, block)));
    expect(shown).toEqual([5, 0, 0, 0, 0]);
    expect(await it.volumes.countObjects('demo')).toMatchObject({ all: 2 });
    await using whole = await open(it.volumes, 'demo@whole');
    expect(await read(whole, 1023)).toBe(5);
  });

  test('a rollback and a clone have the size of the snapshot', async () => {
    await using it = await world();
    await it.volumes.snapshot('demo', 'small');
    await it.volumes.resize('demo', 8 * MiB, DO);
    await it.volumes.clone({ name: 'demo', snapshot: 'small' }, 'copy');
    expect((await it.directory.info('copy')).sizeBytes).toBe(4 * MiB);
    expect((await it.volumes.rollback('demo', 'small')).sizeBytes).toBe(4 * MiB);
  });
});

describe('the family in the directory', () => {
  test('people are told when a VDI was made and when a snapshot was taken', async () => {
    await using it = await world();
    const { createdMs } = await it.directory.info('demo');
    const snapshot = await it.volumes.snapshot('demo', 'monday');
    expect(snapshot.createdMs).toBeGreaterThanOrEqual(createdMs);
    expect((await it.directory.info('demo')).createdMs).toBe(createdMs);
  });

  test('each knows its parent, and its ancestors in order', async () => {
    await using it = await world();
    const first = await it.volumes.snapshot('demo', 'one');
    const second = await it.volumes.snapshot('demo', 'two');
    const copy = await it.volumes.clone({ name: 'demo', snapshot: 'one' }, 'copy');
    const { vid } = await it.directory.info('demo');
    const parents = (await it.directory.family(first.family)).map((record) => [
      record.vid,
      record.parent,
    ]);
    expect(parents).toEqual([
      [first.vid, 0],
      [second.vid, first.vid],
      [vid, second.vid],
      [copy.vid, first.vid],
    ]);
    const ancestors = await it.directory.ancestors(await it.directory.info('demo'));
    expect(ancestors.map((record) => record.tag)).toEqual(['two', 'one']);
  });
});

test('a coordinator that fails in the moment of a snapshot stops the writers: nobody knows who they are', async () => {
  await using it = await world();
  await using device = await open(it.volumes, 'demo');
  await write(device, 0, 1);
  const broken = new SheepError('ERR_IO', 'the disk is gone');
  const directory = new Proxy(it.directory, {
    get: (target, key) =>
      key === 'snapshot'
        ? (name: string, tag: string, make: Parameters<typeof target.snapshot>[2]) =>
            target.snapshot(name, tag, (child) => make(child, () => Promise.reject(broken)))
        : Reflect.get(target, key).bind(target),
  });
  await using volumes = new Volumes(directory, it.farm, silentLog);
  await using other = await open(volumes, 'demo');
  await expect(volumes.snapshot('demo', 'monday')).rejects.toBe(broken);
  await expect(write(other, 1, 2)).rejects.toBe(broken);
  expect(await read(other, 0)).toBe(1);
});
