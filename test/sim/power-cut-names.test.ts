import { describe, expect, test } from 'vitest';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import {
  afterCuts,
  BLOCK,
  blocks,
  filled,
  holding,
  names,
  readAll,
  withFile,
  withOnes,
} from './disk-stories.ts';

describe('names after a power cut', () => {
  test('a new name is certain once its directory is synced, not when its file is', async () => {
    const { disk } = await withFile();
    await using file = await disk.open('/store/b', { create: true });
    file.writeNow(0, filled(10, 1));
    await file.sync();
    expect(await afterCuts(disk, names)).toEqual(['a', 'a b']);
    await disk.syncDirectory('/store');
    expect(await afterCuts(disk, names)).toEqual(['a b']);
  });

  test('a certain name says nothing about its bytes', async () => {
    const { disk } = await withFile();
    await using file = await disk.open('/store/b', { create: true });
    file.writeNow(0, filled(10, 1));
    await disk.syncDirectory('/store');
    expect(await readAll(disk.powerCut('nothing'), '/store/b')).toEqual(filled(0, 0));
  });

  test('a sync of a directory covers what it held when the sync began', async () => {
    const { disk } = await withFile();
    const syncing = disk.syncDirectory('/store');
    await Promise.all([disk.open('/store/b', { create: true }), syncing]);
    expect(await afterCuts(disk, names)).toEqual(['a', 'a b']);
  });

  test('each name falls back on its own', async () => {
    const { disk } = await withFile();
    await disk.open('/store/b', { create: true });
    await disk.remove('/store/a');
    expect(await afterCuts(disk, names)).toEqual(['', 'a', 'a b', 'b']);
  });

  test('a removed file comes back with its bytes', async () => {
    const { disk } = await withOnes();
    await disk.remove('/store/a');
    expect(await blocks(disk.powerCut('nothing'))).toBe('1 1');
    await disk.syncDirectory('/store');
    expect(await afterCuts(disk, names)).toEqual(['']);
  });

  test('a rename shows the old name or the new one, never none and never both', async () => {
    const { disk } = await withFile();
    await disk.rename('/store/a', '/store/b');
    expect(await afterCuts(disk, names)).toEqual(['a', 'b']);
  });

  test('a rename over another file leaves the one or the other, whole', async () => {
    const { disk } = await withOnes();
    await using draft = await disk.open('/store/draft', { create: true });
    draft.writeNow(0, filled(BLOCK, 2));
    await draft.sync();
    await disk.rename('/store/draft', '/store/a');
    const both = async (cut: SimDisk) => `${await names(cut)}: ${await blocks(cut)}`;
    expect(await afterCuts(disk, both)).toEqual(['a draft: 1 1', 'a: 1 1', 'a: 2']);
  });

  test('renames one after the other fall back in order', async () => {
    const { disk } = await withFile();
    await disk.rename('/store/a', '/store/b');
    await disk.rename('/store/b', '/store/c');
    expect(await afterCuts(disk, names)).toEqual(['a', 'b', 'c']);
  });

  test('a rename to another directory may leave both names or none', async () => {
    const { disk } = await withOnes();
    await disk.makeDirectory('/store/d');
    await disk.syncAll('/');
    await disk.rename('/store/a', '/store/d/b');
    const both = async (cut: SimDisk) => `${await names(cut)}: ${await cut.list('/store/d')}`;
    expect(await afterCuts(disk, both)).toEqual(['a d: ', 'a d: b', 'd: ', 'd: b']);
    await disk.syncDirectory('/store/d');
    expect(await afterCuts(disk, both)).toEqual(['a d: b', 'd: b']);
    await disk.syncDirectory('/store');
    expect(await afterCuts(disk, both)).toEqual(['d: b']);
  });

  test('one file under both names is one file', async () => {
    const { disk } = await withOnes();
    await disk.makeDirectory('/store/d');
    await disk.syncAll('/');
    await disk.rename('/store/a', '/store/d/b');
    await disk.syncDirectory('/store/d');
    const cut = disk.powerCut('nothing');
    await using file = await cut.open('/store/a');
    file.writeNow(0, filled(BLOCK, 3));
    expect((await readAll(cut, '/store/d/b'))[0]).toBe(3);
    file.closeNow();
    const used = async () => {
      const { totalBytes, freeBytes } = await cut.space('/');
      return (totalBytes - freeBytes) / BLOCK;
    };
    await cut.remove('/store/a');
    expect(await used()).toBe(2);
    await cut.remove('/store/d/b');
    expect(await used()).toBe(0);
  });

  test('a directory that is lost takes along what is in it', async () => {
    const { disk } = await withFile();
    await disk.makeDirectory('/store/d/e');
    await using file = await disk.open('/store/d/e/b', { create: true });
    await file.sync();
    await disk.syncDirectory('/store/d/e');
    await disk.syncDirectory('/store');
    const list = async (cut: SimDisk) => `${await cut.list('/store/d')}`;
    expect(await afterCuts(disk, list)).toEqual(['', 'e']);
    await disk.syncDirectory('/store/d');
    expect(await afterCuts(disk, async (cut) => `${await cut.list('/store/d/e')}`)).toEqual(['b']);
  });

  test('names that are being made, moved and removed may be there or not', async () => {
    const { delay, hold, letGo } = holding();
    const { disk } = await withFile({ delay });
    hold('rename', 'open', 'makeDirectory');
    const underWay = [
      disk.rename('/store/a', '/store/b'),
      disk.open('/store/c', { create: true }),
      disk.makeDirectory('/store/d'),
    ];
    const all = ['a', 'a c', 'a c d', 'a d', 'b', 'b c', 'b c d', 'b d'];
    expect(await names(disk)).toBe('a');
    expect(await afterCuts(disk, names)).toEqual(all);
    letGo();
    await Promise.all(underWay);
    expect(await names(disk)).toBe('b c d');
  });
});
