import { describe, expect, test } from 'vitest';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import {
  afterCuts,
  BLOCK,
  blocks,
  filled,
  holding,
  readAll,
  withFile,
  withOnes,
} from './disk-stories.ts';

describe('bytes after a power cut', () => {
  test('synced ones are there, whatever else is not', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(2 * BLOCK, filled(BLOCK, 2));
    for (const left of await afterCuts(disk, blocks)) expect(left).toMatch(/^1 1/);
  });

  test('each block falls back on its own', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(2 * BLOCK, 2));
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '1 2', '2 1', '2 2']);
  });

  test('a block falls back to any state since the last sync', async () => {
    const { disk, file } = await withOnes();
    for (const value of [2, 3, 4]) file.writeNow(0, filled(BLOCK, value));
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '2 1', '3 1', '4 1']);
  });

  test('a block is never left half-written', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(100, filled(2 * BLOCK - 200, 2));
    const ends = async (cut: SimDisk) => {
      const bytes = await readAll(cut);
      return [99, 100, BLOCK - 1, BLOCK, 2 * BLOCK - 101, 2 * BLOCK - 100]
        .map((at) => bytes[at])
        .join(' ');
    };
    expect(await afterCuts(disk, ends)).toEqual([
      '1 1 1 1 1 1',
      '1 1 1 2 2 1',
      '1 2 2 1 1 1',
      '1 2 2 2 2 1',
    ]);
  });

  test('the size falls back on its own', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(2 * BLOCK, filled(2 * BLOCK, 2));
    expect(await afterCuts(disk, blocks)).toEqual([
      '1 1',
      '1 1 0',
      '1 1 0 0',
      '1 1 0 2',
      '1 1 2',
      '1 1 2 0',
      '1 1 2 2',
    ]);
  });

  test('beyond a size that fell back there is nothing to come up again', async () => {
    const { disk, file } = await withFile();
    file.writeNow(0, filled(100, 1));
    await file.sync();
    file.writeNow(100, filled(2 * BLOCK, 2));
    const cut = disk.powerCut('nothing');
    expect(await readAll(cut)).toEqual(filled(100, 1));
    const grown = async (left: SimDisk) => {
      await using again = await left.open('/store/a');
      const size = await again.size();
      await again.truncate(3 * BLOCK);
      const bytes = await readAll(left);
      return bytes.subarray(size).every((byte) => byte === 0) ? 'zeroes' : 'old bytes';
    };
    expect(await afterCuts(disk, grown)).toEqual(['zeroes']);
  });

  test('what was cut off may be there again, each block on its own', async () => {
    const { disk, file } = await withOnes();
    await file.truncate(0);
    expect(await afterCuts(disk, blocks)).toEqual(['', '0 0', '0 1', '1 0', '1 1']);
    await file.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['']);
  });

  test.for(['punch', 'zero'] as const)('%s falls back like a write', async (change) => {
    const { disk, file } = await withOnes();
    await file[change](0, 2 * BLOCK);
    expect(await afterCuts(disk, blocks)).toEqual(['0 0', '0 1', '1 0', '1 1']);
    await file.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['0 0']);
  });

  test('space is counted anew', async () => {
    const { disk, file } = await withOnes();
    await file.punch(0, 2 * BLOCK);
    const used = async (cut: SimDisk) => {
      const { totalBytes, freeBytes } = await cut.space('/');
      return `${(totalBytes - freeBytes) / BLOCK}`;
    };
    expect(await afterCuts(disk, used)).toEqual(['0', '1', '2']);
  });

  test('of a write under way each block may be there', async () => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withOnes({ delay });
    hold('write');
    const writing = file.write(0, filled(2 * BLOCK, 2));
    expect(await blocks(disk)).toBe('1 1');
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '1 2', '2 1', '2 2']);
    letGo();
    await writing;
    expect(await blocks(disk)).toBe('2 2');
  });

  test.for(['punch', 'zero'] as const)(
    'of a %s under way each block may be there',
    async (change) => {
      const { disk, file } = await withOnes();
      const changing = file[change](0, 2 * BLOCK);
      expect(await afterCuts(disk, blocks)).toEqual(['0 0', '0 1', '1 0', '1 1']);
      await changing;
    },
  );
});

describe('syncs before a power cut', () => {
  test('a sync counts when it has settled, not before', async () => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withOnes({ delay });
    hold('sync');
    file.writeNow(0, filled(BLOCK, 2));
    const syncing = file.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '2 1']);
    expect(await blocks(disk.powerCut('nothing'))).toBe('1 1');
    letGo();
    await syncing;
    expect(await afterCuts(disk, blocks)).toEqual(['2 1']);
  });

  test('a sync covers what was written before it began, not what came during it', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(BLOCK, 2));
    const syncing = file.sync();
    file.writeNow(0, filled(BLOCK, 3));
    await syncing;
    expect(await afterCuts(disk, blocks)).toEqual(['2 1', '3 1']);
  });

  test('a sync does not cover a write that was still under way', async () => {
    const { disk, file } = await withOnes();
    const writing = file.write(0, filled(BLOCK, 2));
    await Promise.all([file.sync(), writing]);
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '2 1']);
  });

  test('a sync of one handle covers what another wrote', async () => {
    const { disk, file } = await withOnes();
    await using other = await disk.open('/store/a');
    other.writeNow(0, filled(BLOCK, 2));
    await file.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['2 1']);
  });

  test('a sync covers no other file', async () => {
    const { disk, file } = await withOnes();
    await using other = await disk.open('/store/b', { create: true });
    file.writeNow(0, filled(BLOCK, 2));
    await other.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '2 1']);
  });

  test('a sync of everything covers bytes and names', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(BLOCK, 2));
    await disk.makeDirectory('/store/d');
    await using other = await disk.open('/store/d/b', { create: true });
    other.writeNow(0, filled(10, 3));
    await disk.syncAll('/store');
    expect(await afterCuts(disk, blocks)).toEqual(['2 1']);
    const inDirectory = async (cut: SimDisk) => `${(await readAll(cut, '/store/d/b'))[9]}`;
    expect(await afterCuts(disk, inDirectory)).toEqual(['3']);
  });

  test('after a sync that failed only what is written again can be synced', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(2 * BLOCK, 2));
    disk.failNext('sync', 'ERR_IO');
    const failure = await file.sync().catch((error) => error);
    expect(failure).toMatchObject({ code: 'ERR_IO' });
    await expect(file.sync()).rejects.toBe(failure);
    await using again = await disk.open('/store/a');
    await again.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '1 2', '2 1', '2 2']);
    again.writeNow(0, filled(BLOCK, 3));
    await again.sync();
    expect(await afterCuts(disk, blocks)).toEqual(['3 1', '3 2']);
  });

  test('a sync of everything that failed is no better', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(BLOCK, 2));
    disk.failNext('syncAll', 'ERR_IO');
    await expect(disk.syncAll('/')).rejects.toMatchObject({ code: 'ERR_IO' });
    await disk.syncAll('/');
    expect(await afterCuts(disk, blocks)).toEqual(['1 1', '2 1']);
  });
});

describe('the machine after a power cut', () => {
  test('has booted anew and holds no locks', async () => {
    const { disk } = await withFile();
    await using _lock = await disk.lock('/store/a');
    const cut = disk.powerCut('nothing');
    const again = cut.powerCut('nothing');
    const boots = await Promise.all([disk, cut, again].map((each) => each.bootId()));
    expect(new Set(boots).size).toBe(3);
    await using _again = await cut.lock('/store/a');
  });

  test('finds what the last cut left, for good', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(2 * BLOCK, 2));
    const cut = disk.powerCut('everything');
    expect(await afterCuts(cut, blocks)).toEqual(['2 2']);
  });

  test('is one of many: cuts of one state know nothing of each other', async () => {
    const { disk, file } = await withOnes();
    file.writeNow(0, filled(BLOCK, 2));
    const [one, other] = [disk.powerCut('nothing'), disk.powerCut('everything')];
    await using inOne = await one.open('/store/a');
    inOne.writeNow(BLOCK, filled(BLOCK, 5));
    await one.syncAll('/');
    file.writeNow(BLOCK, filled(BLOCK, 6));
    expect(await blocks(one)).toBe('1 5');
    expect(await blocks(other)).toBe('2 1');
    expect(await blocks(disk)).toBe('2 6');
  });
});
