import { describe, expect, test } from 'vitest';
import { contents, contentsOf, create, expectBytes, type FreshDisk, filled } from './disk-world.ts';

/** The part of the contract that is about names and directories. */
export function diskNamesContract(name: string, fresh: FreshDisk): void {
  describe(`${name} is a Disk: names`, () => {
    test("a file that is made is its user's alone, and stays so", async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(10, 1));
      await disk.rename(`${root}/a`, `${root}/b`);
      expect(await disk.permissions(`${root}/b`)).toMatchObject({ mode: 0o600, own: true });
      await expect(disk.permissions(`${root}/a`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    });

    test('a rename moves a file, also under its open handles', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await using file = await disk.open(`${root}/a`, { create: true });
      await disk.makeDirectory(`${root}/d`);
      for (const [from, to] of [
        ['a', 'b'],
        ['b', 'd/c'],
        ['d/c', 'a'],
        ['a', 'a'],
      ] as const) {
        await disk.rename(`${root}/${from}`, `${root}/${to}`);
        await file.write(0, filled(10, 7));
        expectBytes(await contentsOf(disk, `${root}/${to}`), filled(10, 7));
      }
      expect(await disk.list(root)).toEqual(['a', 'd']);
      expect(await disk.list(`${root}/d`)).toEqual([]);
    });

    test('a rename replaces what had the name', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(10, 1));
      await create(disk, `${root}/b`, filled(10, 2));
      await using replaced = await disk.open(`${root}/b`);
      await disk.rename(`${root}/a`, `${root}/b`);
      expect(await disk.list(root)).toEqual(['b']);
      expectBytes(await contentsOf(disk, `${root}/b`), filled(10, 1));
      expectBytes(await contents(replaced), filled(10, 2));
    });

    test('a rename refuses names that are not there and places that cannot be', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(10, 1));
      await disk.makeDirectory(`${root}/d/e`);
      const expectRefusal = async (from: string, to: string, code: string) => {
        const renaming = disk.rename(`${root}/${from}`, `${root}/${to}`);
        await expect(renaming, `${from} to ${to}`).rejects.toMatchObject({ code });
      };
      await expectRefusal('x', 'b', 'ERR_NOT_FOUND');
      await expectRefusal('a', 'x/b', 'ERR_NOT_FOUND');
      await expectRefusal('a', 'd', 'ERR_IO');
      await expectRefusal('d', 'a', 'ERR_IO');
      await expectRefusal('d', 'd/e/f', 'ERR_IO');
      expect(await disk.list(root)).toEqual(['a', 'd']);
    });

    test('a directory is renamed with all that is in it', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await disk.makeDirectory(`${root}/d`);
      await create(disk, `${root}/d/a`, filled(10, 1));
      await disk.rename(`${root}/d`, `${root}/e`);
      expectBytes(await contentsOf(disk, `${root}/e/a`), filled(10, 1));
      expect(await disk.exists(`${root}/d`)).toBe(false);
    });

    test('removes a name', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(10, 1));
      await disk.remove(`${root}/a`);
      expect(await disk.exists(`${root}/a`)).toBe(false);
      await expect(disk.remove(`${root}/a`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      await expect(disk.remove(root)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    test('a file that is removed while it is open goes on', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await using file = await disk.open(`${root}/a`, { create: true });
      await file.write(0, filled(10, 1));
      await disk.remove(`${root}/a`);
      await create(disk, `${root}/a`, filled(10, 2));
      await file.write(10, filled(10, 3));
      await file.sync();
      expectBytes(await contents(file), Uint8Array.of(...filled(10, 1), ...filled(10, 3)));
      expectBytes(await contentsOf(disk, `${root}/a`), filled(10, 2));
    });

    test('directories are made with their parents, as often as one likes', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await disk.makeDirectory(`${root}/a/b/c`);
      await disk.makeDirectory(`${root}/a/b/c`);
      expect(await disk.list(`${root}/a/b`)).toEqual(['c']);
      await create(disk, `${root}/f`, filled(10, 1));
      const onFile = disk.makeDirectory(`${root}/f`);
      await expect(onFile).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    });

    test('names are listed in order', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      for (const file of ['b', '10', 'a', 'B', '9']) {
        await create(disk, `${root}/${file}`, filled(1, 1));
      }
      await disk.makeDirectory(`${root}/aa`);
      expect(await disk.list(root)).toEqual(['10', '9', 'B', 'a', 'aa', 'b']);
      expect(await disk.list(`${root}/none`)).toEqual([]);
      await expect(disk.list(`${root}/a`)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    test('files and directories exist, other names do not', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(1, 1));
      const found = ['', '/a', '/b', '/b/c'].map((path) => disk.exists(`${root}${path}`));
      expect(await Promise.all(found)).toEqual([true, true, false, false]);
    });

    test('directories and whole file systems are synced, if they are there', async () => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(1, 1));
      await disk.syncDirectory(root);
      await disk.syncAll(root);
      await expect(disk.syncDirectory(`${root}/b`)).rejects.toMatchObject({
        code: 'ERR_NOT_FOUND',
      });
      await expect(disk.syncAll(`${root}/b`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      await expect(disk.syncDirectory(`${root}/a`)).rejects.toMatchObject({ code: 'ERR_IO' });
    });
  });
}
