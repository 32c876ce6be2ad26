import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { changedBlock, depthOf, describeObjects } from '../../src/vdi/changes.ts';
import { levelsOf } from '../../src/vdi/levels.ts';
import { create, FamilyModel, write } from './family-model.ts';
import { OBJECT_BLOCKS, openWorld, STORE } from './family-world.ts';

const BLOCKS = 3 * OBJECT_BLOCKS;

async function world() {
  const world = await openWorld(new SimDisk({ directories: [STORE] }));
  const model = new FamilyModel();
  await create(world, model, 'base', BLOCKS);
  const put = async (name: string, first: number, count: number) => {
    if (!model.has(name)) model.create(name, BLOCKS);
    await write(world, model, name, { first, count, value: 1 + first });
  };
  return { ...world, put };
}

/** Flags of each block, such as `0x3 1x2`, over the whole disk, in as many calls as it takes. */
async function said(device: BlockDevice, context: string, countMax = 1000): Promise<string> {
  const { sizeBytes } = device.info;
  const runs: { count: number; flags: number }[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const found = (await device.describe?.(context, at, sizeBytes - at, countMax)) ?? [];
    expect(found.length).toBeGreaterThan(0);
    expect(found.length).toBeLessThanOrEqual(countMax);
    for (const { length, flags } of found) {
      at += length;
      const last = runs.at(-1);
      if (last?.flags === flags) last.count += length / BLOCK_BYTES;
      else runs.push({ count: length / BLOCK_BYTES, flags });
    }
    expect(at).toBeLessThanOrEqual(sizeBytes);
  }
  return runs.map(({ count, flags }) => `${flags}x${count}`).join(' ');
}

describe('the depth of blocks', () => {
  test('is counted from the VDI down, holes are 0, and a deleted snapshot keeps its place', async () => {
    const { volumes, deletions, device, put } = await world();
    await put('base', 0, 4);
    await volumes.snapshot('base', 'one');
    await put('base', 1, 1);
    await volumes.snapshot('base', 'two');
    await put('base', 2, 1);
    const depth = 'qemu:allocation-depth';
    const expected = `3x1 2x1 1x1 3x1 0x${BLOCKS - 4}`;
    expect(await said(await device('base'), depth)).toBe(expected);
    expect(await said(await device('base@two'), depth)).toBe(`2x1 1x1 2x2 0x${BLOCKS - 4}`);
    await deletions.finish(await volumes.delete('base', { snapshot: 'one', dryRun: false }));
    expect(await said(await device('base'), depth)).toBe(expected);
  });
});

describe('what changed since a snapshot', () => {
  test('is what was written, trimmed or zeroed, and nothing else', async () => {
    const { volumes, device, put } = await world();
    await put('base', 0, 8);
    await put('base', OBJECT_BLOCKS, 8);
    await volumes.snapshot('base', 'one');
    const bitmap = 'qemu:dirty-bitmap:one';
    expect(await said(await device('base'), bitmap)).toBe(`0x${BLOCKS}`);
    await put('base', 2, 1);
    const base = await device('base');
    await base.trim(4 * BLOCK_BYTES, BLOCK_BYTES, { durable: false });
    const zero = { durable: false, keepAllocated: true, fastOnly: false };
    await base.writeZeroes(6 * BLOCK_BYTES, BLOCK_BYTES, zero);
    const whole = OBJECT_BLOCKS * BLOCK_BYTES;
    await base.trim(whole, whole, { durable: false });
    await put('base', 2 * OBJECT_BLOCKS, 1);
    const rest = OBJECT_BLOCKS - 8;
    const expected = `0x2 1x1 0x1 1x1 0x1 1x1 0x${1 + rest} 1x8 0x${rest} 1x1 0x${OBJECT_BLOCKS - 1}`;
    for (const countMax of [1000, 1, 2]) expect(await said(base, bitmap, countMax)).toBe(expected);
    // The bytes of a request need not lie on borders of blocks.
    expect(await base.describe?.(bitmap, 2 * BLOCK_BYTES + 100, 2 * BLOCK_BYTES, 9)).toEqual([
      { length: BLOCK_BYTES - 100, flags: 1 },
      { length: BLOCK_BYTES, flags: 0 },
      { length: 100, flags: 1 },
    ]);
  });

  test('is asked of any snapshot below, of clones too, and of none that is gone', async () => {
    const { volumes, device, put } = await world();
    await put('base', 0, 4);
    await volumes.snapshot('base', 'one');
    await put('base', 1, 1);
    await volumes.snapshot('base', 'two');
    await volumes.clone({ name: 'base', snapshot: 'two' }, 'copy');
    await put('copy', 2, 1);
    const copy = await device('copy');
    expect(copy.info.contexts).toEqual([
      'qemu:allocation-depth',
      'qemu:dirty-bitmap:two',
      'qemu:dirty-bitmap:one',
    ]);
    expect(await said(copy, 'qemu:dirty-bitmap:one')).toBe(`0x1 1x2 0x${BLOCKS - 3}`);
    expect(await said(copy, 'qemu:dirty-bitmap:two')).toBe(`0x2 1x1 0x${BLOCKS - 3}`);
    expect(await said(await device('base@two'), 'qemu:dirty-bitmap:one')).toBe(
      `0x1 1x1 0x${BLOCKS - 2}`,
    );
    await volumes.delete('base', { snapshot: 'one', dryRun: false });
    for (const context of ['qemu:dirty-bitmap:one', 'qemu:dirty-bitmap:', 'other']) {
      await expect(copy.describe?.(context, 0, BLOCK_BYTES, 1)).rejects.toMatchObject({
        code: 'ERR_NOT_FOUND',
      });
    }
  });

  test('of an unchanged disk is known without a look at its objects', async () => {
    const looks: unknown[] = [];
    const disk = new SimDisk({ directories: [STORE] });
    const { volumes, device } = await openWorld(disk, (store) => ({
      ...{ owned: store.owned.bind(store), remove: store.remove.bind(store) },
      ...{ read: store.read.bind(store), write: store.write.bind(store) },
      ...{ zero: store.zero.bind(store), flush: store.flush.bind(store) },
      ...{ announce: store.announce.bind(store), unsettled: store.unsettled.bind(store) },
      extents: store.extents.bind(store),
      sources: (name) => {
        looks.push(name);
        return store.sources(name);
      },
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    }));
    const sizeBytes = 2 ** 40;
    await volumes.create({ name: 'base', sizeBytes, objectBytes: 2 ** 20 });
    const base = await device('base');
    for (const at of [0, 2 ** 30, 2 ** 39]) {
      await base.write(at, new Uint8Array(BLOCK_BYTES).fill(1), { durable: false });
    }
    await volumes.snapshot('base', 'one');
    const unchanged = [{ length: sizeBytes, flags: 0 }];
    expect(await base.describe?.('qemu:dirty-bitmap:one', 0, sizeBytes, 9)).toEqual(unchanged);
    expect(looks).toEqual([]);
    await base.write(2 ** 30, new Uint8Array(BLOCK_BYTES).fill(2), { durable: false });
    const changed = await base.describe?.('qemu:dirty-bitmap:one', 0, sizeBytes, 9);
    expect(changed?.map(({ flags }) => flags)).toEqual([0, 1, 0]);
    expect(looks).toHaveLength(2);
  });
});

describe('the pure part', () => {
  const sources = fc.array(fc.nat(3), { minLength: 8, maxLength: 8 });

  test('a block is changed when another vid holds it, and holes are held by nobody', () => {
    fc.assert(
      fc.property(fc.option(sources), fc.option(sources), fc.nat(7), (before, after, block) => {
        const list = (from: number[] | null) => (from ? Uint32Array.from(from) : undefined);
        const expected = (before?.[block] ?? 0) !== (after?.[block] ?? 0);
        expect(changedBlock(list(before), list(after), block)).toBe(expected);
      }),
    );
  });

  test('depths', () => {
    const ancestors = [
      { vid: 8, state: 'held' },
      { vid: 5, state: 'snapshot' },
      { vid: 4, state: 'released' },
      { vid: 3, state: 'deleting' },
    ] as const;
    const levels = levelsOf({ vid: 9 }, ancestors);
    const sources = [0, 9, 8, 5, 4, 3, 77];
    expect(sources.map((source) => depthOf(source, levels))).toEqual([0, 1, 1, 2, 2, 3, 4]);
  });

  test('runs say what each block was said to be, whatever is asked for', async () => {
    const objects = fc.array(fc.array(fc.nat(2), { minLength: 4, maxLength: 4 }), {
      minLength: 1,
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(
        objects,
        fc.nat(10 ** 6),
        fc.nat(10 ** 6),
        fc.integer({ min: 1, max: 9 }),
        async (flags, a, b, countMax) => {
          const objectBytes = 4 * BLOCK_BYTES;
          const size = flags.length * objectBytes;
          const at = a % size;
          const length = 1 + (b % (size - at));
          const found = await describeObjects(
            { at, length, countMax, objectBytes },
            async (index) => {
              const own = flags[index] ?? [];
              const alike = own.every((flag) => flag === own[0]);
              return alike
                ? { upTo: index + 1, flags: own[0] ?? 0 }
                : { flagsOf: (block) => own[block] ?? 0 };
            },
          );
          expect(found.length).toBeLessThanOrEqual(countMax);
          let position = at;
          for (const [place, run] of found.entries()) {
            if (place > 0) expect(run.flags).not.toBe(found[place - 1]?.flags);
            for (let byte = position; byte < position + run.length; byte += 100) {
              const block = Math.floor(byte / BLOCK_BYTES);
              expect(flags.flat()[block]).toBe(run.flags);
            }
            position += run.length;
          }
          expect(position).toBeLessThanOrEqual(at + length);
          if (found.length < countMax) expect(position).toBe(at + length);
        },
      ),
    );
  });
});
