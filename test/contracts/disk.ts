import { describe, expect, test } from 'vitest';
import { isFault } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { diskBytesContract } from './disk-bytes.ts';
import { diskNamesContract } from './disk-names.ts';
import { contentsOf, create, expectBytes, type FreshDisk, filled, pattern } from './disk-world.ts';

/** What any Disk must do as long as the power stays on. */
export function diskContract(name: string, fresh: FreshDisk): void {
  diskBytesContract(name, fresh);
  diskNamesContract(name, fresh);

  describe(`${name} is a Disk: files are opened`, () => {
    test('refuses a name that is not there', async () => {
      await using world = await fresh();
      const opening = world.disk.open(`${world.root}/a`);
      await expect(opening).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      await expect(opening).rejects.toThrow(`${world.root}/a`);
      const inNoDirectory = world.disk.open(`${world.root}/no/a`, { create: true });
      await expect(inNoDirectory).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    });

    test('makes a file where it may, and keeps one that is there', async () => {
      await using world = await fresh();
      for (const expected of [0, 3]) {
        await using file = await world.disk.open(`${world.root}/a`, { create: true });
        expect(await file.size()).toBe(expected);
        await file.write(0, filled(3, 7));
      }
      expect(await world.disk.list(world.root)).toEqual(['a']);
    });

    test('of a file that must be new refuses one that is there', async () => {
      await using world = await fresh();
      const mode = { create: true, exclusive: true };
      await using _file = await world.disk.open(`${world.root}/a`, mode);
      const again = world.disk.open(`${world.root}/a`, mode);
      await expect(again).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    });

    test('empties the file if asked to', async () => {
      await using world = await fresh();
      await create(world.disk, `${world.root}/a`, filled(9000, 7));
      await using file = await world.disk.open(`${world.root}/a`, { truncate: true });
      expect(await file.size()).toBe(0);
    });

    test('takes a directory for no file', async () => {
      await using world = await fresh();
      await expect(world.disk.open(world.root)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    test('only what is created can be exclusive', async () => {
      await using world = await fresh();
      const opening = async () => world.disk.open(`${world.root}/a`, { exclusive: true });
      await expect(opening()).rejects.toMatchObject({ name: 'AssertionFailure' });
    });

    test('at once it is the same file, if it is opened at all', async () => {
      await using world = await fresh();
      await create(world.disk, `${world.root}/a`, filled(9000, 7));
      const file = world.disk.openCachedNow(`${world.root}/a`);
      if (file === undefined) return; // not every disk knows its names without asking the medium
      await file.write(8000, filled(500, 8));
      await file[Symbol.asyncDispose]();
      const expected = filled(9000, 7);
      expected.fill(8, 8000, 8500);
      expectBytes(await contentsOf(world.disk, `${world.root}/a`), expected);
    });

    test('at once it makes nothing, and opens no directory', async () => {
      await using world = await fresh();
      expect(world.disk.openCachedNow(`${world.root}/a`)).toBeUndefined();
      expect(world.disk.openCachedNow(world.root)).toBeUndefined();
      expect(world.disk.openCachedNow(`${world.root}/no/a`)).toBeUndefined();
      expect(await world.disk.list(world.root)).toEqual([]);
    });
  });

  describe(`${name} is a Disk: handles, locks and the rest`, () => {
    test('a closed file is not used', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      file.closeNow();
      file.closeNow();
      const into = new Uint8Array(1);
      const broken = expect.objectContaining({ name: 'AssertionFailure' });
      expect(() => file.readNow(0, into)).toThrow(broken);
      expect(() => file.writeNow(0, into)).toThrow(broken);
      await expect(file.read(0, into)).rejects.toEqual(broken);
      await expect(file.write(0, into)).rejects.toEqual(broken);
      await expect(file.sync()).rejects.toEqual(broken);
      await expect(file.size()).rejects.toEqual(broken);
    });

    test('what is under way on a file ends well when the file is closed', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      const bytes = pattern(MiB);
      for (let round = 0; round < 20; round += 1) {
        const file = await disk.open(`${root}/a`, { create: true, truncate: true });
        const writing = file.write(0, bytes);
        file.closeNow();
        // On the machine it would get the descriptor of the first one.
        await using next = await disk.open(`${root}/b`, { create: true });
        await writing;
        await file[Symbol.asyncDispose]();
        expect(await next.size()).toBe(0);
        expectBytes(await contentsOf(disk, `${root}/a`), bytes);
      }
    });

    test('a lock is held once, until it is disposed', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      {
        await using _lock = await disk.lock(`${root}/lock`);
        await expect(disk.lock(`${root}/lock`)).rejects.toMatchObject({ code: 'ERR_BUSY' });
        await using _other = await disk.lock(`${root}/other`);
      }
      const lock = await disk.lock(`${root}/lock`);
      await lock[Symbol.asyncDispose]();
      await lock[Symbol.asyncDispose]();
      await using _again = await disk.lock(`${root}/lock`);
      await expect(disk.lock(`${root}/no/lock`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    });

    test('there is some space, and less of it is free', async () => {
      await using world = await fresh();
      const { totalBytes, freeBytes } = await world.disk.space(world.root);
      expect(freeBytes).toBeGreaterThan(0);
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
      const nowhere = world.disk.space(`${world.root}/none`);
      expect(isFault(await nowhere.catch((error) => error), 'ERR_NOT_FOUND')).toBe(true);
    });

    test('the boot has one name', async () => {
      await using world = await fresh();
      const bootId = await world.disk.bootId();
      expect(bootId).not.toBe('');
      expect(await world.disk.bootId()).toBe(bootId);
    });
  });
}
