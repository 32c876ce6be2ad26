import { describe, expect, test } from 'vitest';
import type { ObjectName } from '../../src/base/ids.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { FARM_LIMITS } from '../../src/farm/limits.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import {
  blocks,
  CREATE,
  codeOf,
  DIRECTORY,
  DURABLE,
  everything,
  nameOf,
  PLAIN,
  read,
  SimStore,
  values,
  ZERO,
} from './store.ts';

const VID = 5;
/** A small disk: what it holds besides its reserve is soon written. */
const LIMITS = { ...SMALL_LIMITS, reserveMinBytes: 512 * KiB, reserveMaxBytes: 512 * KiB };
const smallDisk = () => SimStore.open({ limits: LIMITS, disk: { totalBytes: 2 * MiB } });

/** Writes objects until one is refused, then single blocks; the names of the objects. */
async function fill(store: SimStore): Promise<[ObjectName, ...ObjectName[]]> {
  const large = nameOf(1000);
  await store.farm.write(large, 0, blocks(1, 1), { ...PLAIN, createBytes: 4 * MiB });
  const names: [ObjectName, ...ObjectName[]] = [nameOf(0)];
  const write = (name: ObjectName) => codeOf(() => store.farm.write(name, 0, blocks(8, 1), CREATE));
  expect(await write(nameOf(0))).toBe('none');
  for (let index = 1; (await write(nameOf(index))) === 'none'; index += 1)
    names.push(nameOf(index));
  // What the journal could give back, it has.
  await store.rest();
  for (let block = 1, code = 'none'; code === 'none'; block += 1) {
    const at = block * BLOCK_BYTES;
    code = await codeOf(() => store.farm.write(large, at, blocks(1, 1), PLAIN));
    if (code !== 'none') expect(code).toBe('ERR_NO_SPACE');
  }
  return names;
}

describe('on a full disk', () => {
  test('a write to new blocks is answered with ERR_NO_SPACE and changes nothing', async () => {
    const store = await smallDisk();
    await store.farm.write(nameOf(2000), 0, blocks(1, 9), CREATE);
    await fill(store);
    const sparse = nameOf(2000);
    const before = await everything(store.disk, `${DIRECTORY}/obj`);
    expect(await codeOf(() => store.farm.write(sparse, 0, blocks(8, 2), PLAIN))).toBe(
      'ERR_NO_SPACE',
    );
    expect(await codeOf(() => store.farm.write(sparse, 4090, blocks(1, 2), PLAIN))).toBe(
      'ERR_NO_SPACE',
    );
    expect(await values(store.farm, sparse)).toBe('9 0 0 0 0 0 0 0');
    const keep = { ...ZERO, keepAllocated: true };
    expect(await codeOf(() => store.farm.zero(sparse, 0, 8 * BLOCK_BYTES, keep))).toBe(
      'ERR_NO_SPACE',
    );
    expect(await values(store.farm, sparse)).toBe('9 0 0 0 0 0 0 0');
    expect(await everything(store.disk, `${DIRECTORY}/obj`)).toEqual(before);
  });

  test('a write that would make an object makes none, and discards none', async () => {
    const store = await smallDisk();
    const names = await fill(store);
    const before = await everything(store.disk, `${DIRECTORY}/obj`);
    for (let index = 3000; index < 3100; index += 1) {
      const name = nameOf(index);
      expect(await codeOf(() => store.farm.write(name, 0, blocks(8, 2), CREATE))).toBe(
        'ERR_NO_SPACE',
      );
      expect(await codeOf(() => read(store.farm, name, 0, 1))).toBe('ERR_MISSING');
      const keep = { ...CREATE, keepAllocated: true };
      expect(await codeOf(() => store.farm.zero(name, 0, 8 * BLOCK_BYTES, keep))).toBe(
        'ERR_NO_SPACE',
      );
      expect(await codeOf(() => read(store.farm, name, 0, 1))).toBe('ERR_MISSING');
    }
    const [first] = names;
    expect(await codeOf(() => store.farm.write(first, 0, blocks(8, 2), CREATE))).toBe(
      'ERR_NO_SPACE',
    );
    expect(await values(store.farm, first)).toBe('1 1 1 1 1 1 1 1');
    expect(await everything(store.disk, `${DIRECTORY}/obj`)).toEqual(before);
  });

  test('many who write at once together leave alone what is reserved', async () => {
    const store = await smallDisk();
    // All of them ask how much is free before the first of them has written anything.
    const write = (index: number) =>
      codeOf(() => store.farm.write(nameOf(index), 0, blocks(8, 1), CREATE));
    const codes = await Promise.all(Array.from({ length: 100 }, (_, index) => write(index)));
    expect(new Set(codes)).toEqual(new Set(['none', 'ERR_NO_SPACE']));
    const { freeBytes, reservedBytes } = await store.farm.space();
    // The journal alone may grow into it.
    expect(freeBytes + store.farm.stats().journalBytes).toBeGreaterThanOrEqual(reservedBytes);
    await store.farm.write(nameOf(codes.indexOf('none')), 0, blocks(1, 2), DURABLE);
    await store.rest();
  });

  test('what is written can be written over, read, zeroed, flushed and removed', async () => {
    const store = await smallDisk();
    const names = await fill(store);
    for (const name of names) {
      await store.farm.write(name, 0, blocks(2, 2), PLAIN);
      await store.farm.write(name, 2 * BLOCK_BYTES, blocks(1, 3), DURABLE);
      await store.farm.zero(name, 3 * BLOCK_BYTES, BLOCK_BYTES, ZERO);
      await store.farm.write(name, 4 * BLOCK_BYTES + 1, blocks(1, 1), PLAIN);
      expect(await values(store.farm, name)).toBe('2 2 3 0 1 1 1 1');
    }
    await store.farm.flush(VID);
    await store.rest();
    for (const name of names.slice(2)) await store.farm.remove(name, PLAIN);
    expect(await codeOf(() => store.farm.write(nameOf(5000), 0, blocks(8, 1), CREATE))).toBe(
      'none',
    );
  });

  test.for(['clean stop', 'kill', 'power cut'] as const)(
    'a store is closed and opened again after a %s, and has lost nothing',
    async (how) => {
      const store = await smallDisk();
      const names = await fill(store);
      for (const name of names) await store.farm.write(name, 0, blocks(1, 2), PLAIN);
      await store.farm.flush(VID);
      for (let time = 0; time < 6; time += 1) {
        if (how === 'kill') await store.kill();
        else if (how === 'power cut') await store.powerCut();
        else await store.restart();
        for (const name of names) {
          await store.farm.write(name, BLOCK_BYTES, blocks(1, 3 + time), DURABLE);
          expect(await values(store.farm, name)).toBe(`2 ${3 + time} 1 1 1 1 1 1`);
        }
      }
    },
  );

  test('small flushes go on through many segments of the journal', async () => {
    const store = await smallDisk();
    const [name] = await fill(store);
    for (let time = 0; time < 2000; time += 1) {
      await store.farm.write(name, 0, blocks(1, time % 251), DURABLE);
    }
    await store.powerCut();
    expect(await values(store.farm, name)).toBe(`${1999 % 251} 1 1 1 1 1 1 1`);
  });

  test('objects come and go through many segments of the journal', async () => {
    const store = await smallDisk();
    const [name, ...others] = await fill(store);
    // The journal is allowed to be a few segments longer than it was.
    for (const other of others.slice(-6)) await store.farm.remove(other, PLAIN);
    for (let time = 0; time < 1000; time += 1) {
      await store.farm.remove(name, PLAIN);
      await store.farm.write(name, 0, blocks(8, time % 251), CREATE);
    }
    await store.farm.flush(VID);
    await store.powerCut();
    expect(await values(store.farm, name, 1)).toBe(`${999 % 251}`);
  });

  test('of the size of a few segments a store still opens, also when it is full', async () => {
    const disk = { totalBytes: 200 * MiB };
    const store = await SimStore.open({ limits: FARM_LIMITS, disk });
    const object = { ...PLAIN, createBytes: 4 * MiB };
    for (let index = 0; ; index += 1) {
      const code = await codeOf(() =>
        store.farm.write(nameOf(index), 0, new Uint8Array(4 * MiB), object),
      );
      if (code === 'ERR_NO_SPACE') break;
      expect(code).toBe('none');
    }
    await store.farm.flush(VID);
    await store.farm.write(nameOf(0), 0, blocks(1, 7), DURABLE);
    for (let time = 0; time < 3; time += 1) {
      await store.powerCut();
      expect(await values(store.farm, nameOf(0), 1)).toBe('7');
      await store.restart();
    }
  });
});
