import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import type { DiskFile } from '../../src/contracts/disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { contents, expectBytes, type FreshDisk, filled, pattern } from './disk-world.ts';

type Write = (file: DiskFile, at: number, from: Uint8Array) => Promise<void>;
const WRITES: readonly [string, Write][] = [
  ['write', (file, at, from) => file.write(at, from)],
  ['writeNow', async (file, at, from) => file.writeNow(at, from)],
];

/** The part of the contract that is about bytes, sizes and holes. */
export function diskBytesContract(name: string, fresh: FreshDisk): void {
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

    test('a sync that has begun early changes nothing, also beyond the end', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      file.beginSyncNow(0, 4096);
      await file.write(0, filled(5000, 7));
      file.beginSyncNow(0, 5000);
      file.beginSyncNow(4096, 1 << 20);
      file.writeNow(4096, filled(10, 8));
      await file.sync();
      expectBytes(await contents(file), filled(5000, 7).fill(8, 4096, 4106));
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

    test('a thousand changes may be under way at a time', async () => {
      await using world = await fresh();
      await using file = await world.disk.open(`${world.root}/a`, { create: true });
      await file.write(0, filled(1000 * 4 * KiB, 7));
      const changes = Array.from({ length: 1000 }, (_, block) =>
        block % 2 === 0 ? file.punch(block * 4 * KiB, 10) : file.zero(block * 4 * KiB, 10),
      );
      await Promise.all(changes);
      const block = filled(4 * KiB, 7).fill(0, 0, 10);
      const expected = new Uint8Array(1000 * 4 * KiB);
      for (let at = 0; at < expected.length; at += 4 * KiB) expected.set(block, at);
      expectBytes(await contents(file), expected);
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
}
