import { describe, expect, test } from 'vitest';
import { isFault } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import type { Disk, DiskFile, OpenMode } from '../../src/contracts/disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';

/** A disk and an empty directory on it. */
export interface DiskWorld extends AsyncDisposable {
  readonly disk: Disk;
  readonly root: string;
}

type Open = (disk: Disk, path: string, mode?: OpenMode) => Promise<DiskFile>;
const OPENS: readonly [string, Open][] = [
  ['open', (disk, path, mode) => disk.open(path, mode)],
  ['openNow', async (disk, path, mode) => disk.openNow(path, mode)],
];

type Write = (file: DiskFile, at: number, from: Uint8Array) => Promise<void>;
const WRITES: readonly [string, Write][] = [
  ['write', (file, at, from) => file.write(at, from)],
  ['writeNow', async (file, at, from) => file.writeNow(at, from)],
];

type Remove = (disk: Disk, path: string) => Promise<void>;
const REMOVES: readonly [string, Remove][] = [
  ['remove', (disk, path) => disk.remove(path)],
  ['removeNow', async (disk, path) => disk.removeNow(path)],
];

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

/** Distinct bytes, so that a piece from the wrong place shows. */
const pattern = (length: number, seed = 1) => simRandom(seed).bytes(length);

/** Quick where they are equal, and telling where they are not. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array, what?: string): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual, what).toEqual(expected);
}

/** All of a file, by the way that never waits where it answers, and by the one that may. */
async function contents(file: DiskFile): Promise<Uint8Array> {
  const size = await file.size();
  const bytes = new Uint8Array(size + 1);
  expect(await file.read(0, bytes)).toBe(size);
  const now = filled(size + 1, 0xee);
  const got = file.readNow(0, now);
  expect([size, -1]).toContain(got);
  if (got >= 0) expectBytes(now.subarray(0, size), bytes.subarray(0, size));
  return bytes.subarray(0, size);
}

async function contentsOf(disk: Disk, path: string): Promise<Uint8Array> {
  await using file = await disk.open(path);
  return await contents(file);
}

async function create(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  await using file = await disk.open(path, { create: true, exclusive: true });
  await file.write(0, bytes);
}

/** What any Disk must do as long as the power stays on. */
export function diskContract(name: string, fresh: () => Promise<DiskWorld>): void {
  describe(`${name} is a Disk: files are opened`, () => {
    test.for(OPENS)('%s refuses a name that is not there', async ([, open]) => {
      await using world = await fresh();
      const opening = open(world.disk, `${world.root}/a`);
      await expect(opening).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      await expect(opening).rejects.toThrow(`${world.root}/a`);
      const inNoDirectory = open(world.disk, `${world.root}/no/a`, { create: true });
      await expect(inNoDirectory).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    });

    test.for(OPENS)(
      '%s makes a file where it may, and keeps one that is there',
      async ([, open]) => {
        await using world = await fresh();
        for (const expected of [0, 3]) {
          await using file = await open(world.disk, `${world.root}/a`, { create: true });
          expect(await file.size()).toBe(expected);
          await file.write(0, filled(3, 7));
        }
        expect(await world.disk.list(world.root)).toEqual(['a']);
      },
    );

    test.for(OPENS)('%s of a file that must be new refuses one that is there', async ([, open]) => {
      await using world = await fresh();
      const mode = { create: true, exclusive: true };
      await using _file = await open(world.disk, `${world.root}/a`, mode);
      const again = open(world.disk, `${world.root}/a`, mode);
      await expect(again).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    });

    test.for(OPENS)('%s empties the file if asked to', async ([, open]) => {
      await using world = await fresh();
      await create(world.disk, `${world.root}/a`, filled(9000, 7));
      await using file = await open(world.disk, `${world.root}/a`, { truncate: true });
      expect(await file.size()).toBe(0);
    });

    test.for(OPENS)('%s takes a directory for no file', async ([, open]) => {
      await using world = await fresh();
      await expect(open(world.disk, world.root)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    test.for(OPENS)('%s: only what is created can be exclusive', async ([, open]) => {
      await using world = await fresh();
      const opening = async () => open(world.disk, `${world.root}/a`, { exclusive: true });
      await expect(opening()).rejects.toMatchObject({ name: 'AssertionFailure' });
    });
  });

  describe(`${name} is a Disk: bytes`, () => {
    test.for(WRITES)('what %s wrote is there to be read', async ([, write]) => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      const written = pattern(3 * MiB + 5);
      await write(file, 0, written);
      expectBytes(await contents(file), written);
    });

    test.for(WRITES)('%s keeps what lies around it', async ([, write]) => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      const expected = pattern(20_000, 1);
      await write(file, 0, expected);
      for (const [at, length] of [
        [0, 1],
        [4095, 2],
        [5000, 8000],
        [19_999, 1],
      ] as const) {
        const bytes = pattern(length, at);
        await write(file, at, bytes);
        expected.set(bytes, at);
      }
      expectBytes(await contents(file), expected);
    });

    test.for(WRITES)('%s beyond the end leaves zeroes before it', async ([, write]) => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await write(file, 10_000, filled(10, 7));
      const bytes = await contents(file);
      expect(bytes.length).toBe(10_010);
      expect(bytes.subarray(0, 10_000)).toEqual(filled(10_000, 0));
    });

    test('a buffer is the caller’s again when the write has settled', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      const buffer = filled(4 * KiB, 1);
      file.writeNow(0, buffer);
      buffer.fill(2);
      await file.write(4 * KiB, buffer);
      buffer.fill(3);
      const bytes = await contents(file);
      expect([bytes[0], bytes[4 * KiB - 1], bytes[4 * KiB], bytes.at(-1)]).toEqual([1, 1, 2, 2]);
    });

    test('a read is short at the end of the file, and empty beyond it', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(5000, 7));
      for (const [at, expected] of [
        [4000, 1000],
        [4999, 1],
        [5000, 0],
        [1_000_000, 0],
      ] as const) {
        const into = filled(4 * KiB, 9);
        expect(await file.read(at, into)).toBe(expected);
        expect(into).toEqual(Uint8Array.from(into, (_, index) => (index < expected ? 7 : 9)));
        expect([expected, -1]).toContain(file.readNow(at, into));
      }
    });

    test('a read fills the piece of memory it was given and nothing around it', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(64 * KiB, 7));
      for (const length of [16, 64, 4 * KiB, 64 * KiB]) {
        const memory = filled(length + 20, 9);
        const into = memory.subarray(10, 10 + length);
        expect(await file.read(0, into)).toBe(length);
        expect([length, -1]).toContain(file.readNow(0, into));
        expect(into.every((byte) => byte === 7)).toBe(true);
        expect([memory.subarray(0, 10), memory.subarray(-10)]).toEqual([
          filled(10, 9),
          filled(10, 9),
        ]);
      }
    });

    test('reads of nothing and writes of nothing do nothing', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(10, new Uint8Array(0));
      file.writeNow(10, new Uint8Array(0));
      await file.punch(10, 0);
      await file.zero(10, 0);
      expect(await file.size()).toBe(0);
      expect(await file.read(0, new Uint8Array(0))).toBe(0);
      expect([0, -1]).toContain(file.readNow(0, new Uint8Array(0)));
    });

    test('many writes at a time all land', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      const expected = pattern(32 * 10_000);
      const piece = (index: number) => expected.subarray(index * 10_000, (index + 1) * 10_000);
      await Promise.all(
        Array.from({ length: 32 }, (_, index) => file.write(index * 10_000, piece(index))),
      );
      expectBytes(await contents(file), expected);
    });

    test('two handles of one file see the same', async () => {
      await using world = await fresh();
      await using one = await world.disk.open(`${world.root}/a`, { create: true });
      await using other = await world.disk.open(`${world.root}/a`);
      await one.write(0, filled(5000, 7));
      expectBytes(await contents(other), filled(5000, 7));
    });

    test('a sync settles, with and without something to do', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(5000, 7));
      await Promise.all([file.sync(), file.sync()]);
      await file.sync();
      expectBytes(await contents(file), filled(5000, 7));
    });
  });

  describe(`${name} is a Disk: sizes and holes`, () => {
    test('a file that is cut off and grows again has zeroes at its end', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(10_000, 7));
      await file.truncate(5000);
      expect(await file.size()).toBe(5000);
      await file.truncate(12_000);
      const expected = new Uint8Array(12_000).fill(7, 0, 5000);
      expectBytes(await contents(file), expected);
    });

    test('a punched range reads as zero and the size stays', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(20_000, 7));
      await file.punch(3000, 10_000);
      const expected = filled(20_000, 7).fill(0, 3000, 13_000);
      expectBytes(await contents(file), expected);
      await file.punch(19_000, 1_000_000);
      expectBytes(await contents(file), expected.fill(0, 19_000));
    });

    test('a zeroed range reads as zero and the size stays or grows', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(20_000, 7));
      await file.zero(3000, 10_000);
      const expected = filled(20_000, 7).fill(0, 3000, 13_000);
      expectBytes(await contents(file), expected);
      await file.zero(19_000, 3000);
      expectBytes(
        await contents(file),
        new Uint8Array([...expected.fill(0, 19_000), ...filled(2000, 0)]),
      );
    });

    test('any mix of changes does what it does to an array of bytes', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      const random = simRandom(5);
      let model = new Uint8Array(0);
      const resize = (size: number) => {
        const resized = new Uint8Array(size);
        resized.set(model.subarray(0, size));
        model = resized;
      };
      for (let step = 0; step < 300; step += 1) {
        const at = random.below(40_000);
        const length = 1 + random.below(12_000);
        const choice = random.below(5);
        if (choice <= 1) {
          const bytes = random.bytes(length);
          if (choice === 0) await file.write(at, bytes);
          else file.writeNow(at, bytes);
          if (at + length > model.length) resize(at + length);
          model.set(bytes, at);
        } else if (choice === 2) {
          await file.punch(at, length);
          model.fill(0, at, at + length);
        } else if (choice === 3) {
          await file.zero(at, length);
          if (at + length > model.length) resize(at + length);
          model.fill(0, at, at + length);
        } else {
          await file.truncate(at);
          resize(at);
        }
        if (step % 10 === 0) expectBytes(await contents(file), model, `step ${step}`);
      }
    });
  });

  describe(`${name} is a Disk: names`, () => {
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

    test.for(REMOVES)('%s removes a name', async ([, remove]) => {
      await using world = await fresh();
      const { disk, root } = world;
      await create(disk, `${root}/a`, filled(10, 1));
      await remove(disk, `${root}/a`);
      expect(await disk.exists(`${root}/a`)).toBe(false);
      await expect(remove(disk, `${root}/a`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      await expect(remove(disk, root)).rejects.toMatchObject({ code: 'ERR_IO' });
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
      for (const syncing of [disk.syncDirectory(`${root}/b`), disk.syncAll(`${root}/b`)]) {
        await expect(syncing).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
      }
      await expect(disk.syncDirectory(`${root}/a`)).rejects.toMatchObject({ code: 'ERR_IO' });
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
      for (const waiting of [file.read(0, into), file.write(0, into), file.sync(), file.size()]) {
        await expect(waiting).rejects.toEqual(broken);
      }
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
        await using next = disk.openNow(`${root}/b`, { create: true });
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
