import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { Disk, DiskFile } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { filled, readAll } from './disk-stories.ts';

interface Recorded extends AsyncDisposable {
  readonly recording: RecordingDisk;
  readonly root: string;
}

async function onThisMachine(): Promise<Recorded> {
  const root = await mkdtemp(`${tmpdir()}/sheep-recording-`);
  const start = new SimDisk({ directories: [root] });
  return {
    recording: new RecordingDisk(nodeDisk(), start),
    root,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true }),
  };
}

async function simulated(): Promise<Recorded> {
  const disk = new SimDisk({ directories: ['/store'] });
  return {
    recording: new RecordingDisk(disk, disk.kill()),
    root: '/store',
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

const WORLDS = [
  ['the disk of this machine', onThisMachine],
  ['a simulated disk', simulated],
] as const;

/** Everything below a directory: paths and bytes. */
async function image(disk: Disk, directory: string): Promise<Record<string, Uint8Array>> {
  const found: Record<string, Uint8Array> = {};
  for (const name of await disk.list(directory)) {
    const path = `${directory}/${name}`;
    if (name.startsWith('d')) Object.assign(found, await image(disk, path));
    else found[path] = await readAll(disk, path);
  }
  return found;
}

/** A bit of everything that changes a disk, much of it at the same time. */
async function workload(disk: Disk, root: string, random: Random): Promise<void> {
  await disk.makeDirectory(`${root}/d`);
  await using lock = await disk.lock(`${root}/lock`);
  const open: DiskFile[] = [];
  for (let step = 0; step < 200; step += 1) {
    const path = `${root}/${random.below(2) ? 'd/' : ''}f${random.below(6)}`;
    const file = open[random.below(open.length + 1)];
    const at = random.below(20_000);
    const choice = random.below(10);
    if (!file || choice === 0) open.push(await disk.open(path, { create: true }));
    else if (choice === 1) {
      const found = disk.openCachedNow(path);
      open.push(found ?? (await disk.open(path, { create: true, truncate: true })));
    } else if (choice === 2) file.writeNow(at, random.bytes(5000));
    else if (choice === 3) {
      const pieces = [0, 1, 2].map((n) => file.write(at + n * 7000, random.bytes(7000)));
      await Promise.all([...pieces, file.sync()]);
    } else if (choice === 4) await file.punch(at, 9000);
    else if (choice === 5) await file.zero(at, 9000);
    else if (choice === 6) await file.truncate(at);
    else if (choice === 7) await disk.rename(path, `${root}/f6`).catch(() => undefined);
    else if (choice === 8) {
      if (await disk.exists(path)) await disk.remove(path);
      await Promise.all([disk.syncDirectory(root), disk.syncAll(root)]);
    } else {
      await file[Symbol.asyncDispose]();
      open.splice(open.indexOf(file), 1);
    }
  }
  for (const file of open) file.closeNow();
  await lock[Symbol.asyncDispose]();
}

describe.for(WORLDS)('a recording of %s', ([, fresh]) => {
  test('replays to what is there', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await workload(recording, root, simRandom(1));
    const end = recording.stateAfter(recording.log.length);
    const expected = await image(recording, root);
    expect(Object.keys(expected).length).toBeGreaterThan(3);
    expect(await image(end.powerCut('everything'), root)).toEqual(expected);
    expect(await image(end.kill(), root)).toEqual(expected);
  });

  test('is the same at a moment, however one comes there', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await workload(recording, root, simRandom(2));
    const at = (moment: number) => image(recording.stateAfter(moment).powerCut('nothing'), root);
    const middle = Math.floor(recording.log.length / 2);
    const before = await at(middle);
    const end = await at(recording.log.length);
    expect(await at(middle)).toEqual(before);
    for (let moment = 0; moment <= recording.log.length; moment += 7) await at(moment);
    expect(await at(recording.log.length)).toEqual(end);
    expect(end).not.toEqual(before);
  });

  test('begins with what was there at first', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await using _file = await recording.open(`${root}/a`, { create: true });
    const cut = recording.stateAfter(0).powerCut('everything');
    expect([await cut.exists(root), await cut.list(root)]).toEqual([true, []]);
  });

  test('knows what was under way', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await using file = await recording.open(`${root}/a`, { create: true });
    await recording.syncDirectory(root);
    const before = recording.log.length;
    await file.write(0, filled(10, 1));
    const left = async (moment: number) => {
      const random = simRandom(1);
      const cuts = Array.from({ length: 60 }, () => recording.stateAfter(moment).powerCut(random));
      const sizes = cuts.map(async (cut) => (await readAll(cut, `${root}/a`)).length);
      return [...new Set(await Promise.all(sizes))].sort((a, b) => a - b);
    };
    expect(await left(before)).toEqual([0]);
    expect(recording.log[before]).toMatchObject({ step: 'begin', effect: { kind: 'write' } });
    expect(await left(before + 1)).toEqual([0, 10]);
    await file.sync();
    expect(await left(recording.log.length)).toEqual([10]);
  });

  test('keeps the bytes as they were written', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await using file = await recording.open(`${root}/a`, { create: true });
    const buffer = filled(10, 1);
    file.writeNow(0, buffer);
    buffer.fill(2);
    await file.write(10, buffer);
    buffer.fill(3);
    const end = recording.stateAfter(recording.log.length).powerCut('everything');
    expect(await readAll(end, `${root}/a`)).toEqual(filled(20, 1).fill(2, 10));
  });

  test('takes what was refused for not done', async () => {
    await using world = await fresh();
    const { recording, root } = world;
    await using _file = await recording.open(`${root}/a`, { create: true });
    await expect(recording.open(`${root}/b`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    await expect(recording.remove(`${root}/b`)).rejects.toThrow();
    await expect(recording.rename(`${root}/b`, `${root}/a`)).rejects.toThrow();
    const end = recording.stateAfter(recording.log.length);
    expect(await end.powerCut('everything').list(root)).toEqual(['a']);
  });
});

/** Something that says when it is durable: a counter in one block, replaced by rename. */
interface Counter {
  readonly skip?: 'the sync of the draft' | 'the sync of the directory';
}

async function count(disk: Disk, root: string, { skip }: Counter, said: (n: number) => void) {
  for (let n = 1; n <= 12; n += 1) {
    await using draft = await disk.open(`${root}/draft`, { create: true, truncate: true });
    await draft.write(0, filled(2 * BLOCK_BYTES, n));
    if (skip !== 'the sync of the draft') await draft.sync();
    await disk.rename(`${root}/draft`, `${root}/counter`);
    if (skip !== 'the sync of the directory') await disk.syncDirectory(root);
    said(n);
  }
}

/** How many of the cuts broke the promise that what was said is there. */
async function brokenCuts({ recording, root }: Recorded, counter: Counter): Promise<number> {
  const saidAt: number[] = [];
  await count(recording, root, counter, () => saidAt.push(recording.log.length));
  const random = simRandom(4);
  let broken = 0;
  for (let moment = 0; moment <= recording.log.length; moment += 1) {
    const promised = saidAt.filter((said) => said <= moment).length;
    for (let cut = 0; cut < 5; cut += 1) {
      const disk = recording.stateAfter(moment).powerCut(random);
      const there = await disk.exists(`${root}/counter`);
      const bytes = there ? await readAll(disk, `${root}/counter`) : filled(2 * BLOCK_BYTES, 0);
      const whole = bytes.length === 2 * BLOCK_BYTES && new Set(bytes).size === 1;
      if (!whole || bytes[0]! < promised || bytes[0]! > promised + 1) broken += 1;
    }
  }
  return broken;
}

describe.for(WORLDS)('cuts of a run on %s', ([, fresh]) => {
  test('a careful program keeps its word at each of them', async () => {
    await using world = await fresh();
    expect(await brokenCuts(world, {})).toBe(0);
  });

  test.for(['the sync of the draft', 'the sync of the directory'] as const)(
    'a program that leaves out %s is caught',
    async (skip) => {
      await using world = await fresh();
      expect(await brokenCuts(world, { skip })).toBeGreaterThan(10);
    },
  );
});
