import { describe, expect, test } from 'vitest';
import { KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES, KiB } from '../../src/base/units.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import type { SimDiskOptions } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { makeVolume, openSnapshot, openVolume } from '../../src/vdi/open-volume.ts';
import { scratch } from '../cluster/scratch.ts';
import { blockDeviceContract, type DeviceWorld } from '../contracts/block-device.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { blocks, codeOf, openStore, SimStore } from '../farm/store.ts';
import { holding } from '../sim/disk-stories.ts';
import { DiskModel } from './disk-model.ts';
import { hooked, made, objects, read, recordOf } from './stores.ts';

const B = BLOCK_BYTES;
const record = recordOf();
const OBJECT = record.objectBytes;
const PLAIN = { durable: false };
const DURABLE = { durable: true };
const ZERO = { durable: false, keepAllocated: false, fastOnly: false };
const KEEP = { ...ZERO, keepAllocated: true };

/** 96 blocks in 12 objects. */
const contractRecord = recordOf({ sizeBytes: 96 * B });
const frozenRecord = { ...contractRecord, state: 'snapshot', tag: 'frozen' } as const;

async function simulated(disk: SimDiskOptions): Promise<DeviceWorld> {
  const store = await SimStore.open({ disk });
  await makeVolume({ store: store.farm, record: contractRecord });
  const open = () => openVolume({ store: store.farm, record: contractRecord });
  return {
    device: await open(),
    reopen: async () => {
      await store.restart();
      return open();
    },
    openReadOnly: () => openSnapshot({ store: store.farm, record: frozenRecord }),
    [Symbol.asyncDispose]: () => store.farm[Symbol.asyncDispose](),
  };
}

async function onThisMachine(): Promise<DeviceWorld> {
  const folder = await scratch();
  const limits = { ...SMALL_LIMITS, segmentBytes: 1024 * KiB };
  const openFarm = () => openStore(nodeDisk(), folder.path, { limits });
  let farm = await openFarm();
  await makeVolume({ store: farm, record: contractRecord });
  return {
    device: await openVolume({ store: farm, record: contractRecord }),
    reopen: async () => {
      await farm[Symbol.asyncDispose]();
      farm = await openFarm();
      return openVolume({ store: farm, record: contractRecord });
    },
    openReadOnly: () => openSnapshot({ store: farm, record: frozenRecord }),
    [Symbol.asyncDispose]: async () => {
      await farm[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

blockDeviceContract('a volume on a simulated disk', () => simulated({}));
blockDeviceContract('a volume of which nothing is cached', () =>
  simulated({ cached: () => false }),
);
blockDeviceContract('a volume on this machine', onThisMachine);

describe('random requests, some at the same time', () => {
  test.for([1, 2, 3, 4, 5, 6, 7, 8])('leave what a plain array would hold (%i)', async (seed) => {
    const random = simRandom(seed);
    const {
      store,
      open,
      volume: first,
    } = await made(seed % 2 ? { disk: { cached: () => false } } : {});
    const model = new DiskModel(random, record.sizeBytes);
    let volume = first;
    for (let life = 0; life < 4; life += 1) {
      for (let round = 0; round < 25; round += 1) {
        await model.apart(volume, 1 + random.below(10));
        if (random.below(6) === 0) await store.farm.maintain();
      }
      if (life === 0) await store.restart();
      else if (life === 1) await store.kill();
      else {
        await volume.flush();
        await store.powerCut(random);
      }
      volume = await open();
      await model.compare(volume);
    }
    expect(model.mismatches).toEqual([]);
  });
});

describe('thin provisioning', () => {
  test('an object has a file from its first write to the trim of all of it', async () => {
    const { store, volume } = await made();
    expect(await objects(store)).toEqual([]);
    await volume.write(3 * OBJECT - B, blocks(2, 1), PLAIN);
    expect(await objects(store)).toEqual([2, 3]);
    expect(await volume.allocatedObjects()).toEqual({ own: 2, all: 2 });
    await volume.trim(2 * OBJECT, OBJECT, PLAIN);
    expect(await objects(store)).toEqual([3]);
    await volume.trim(3 * OBJECT, OBJECT - B, PLAIN);
    expect(await objects(store)).toEqual([3]);
    await volume.writeZeroes(2 * OBJECT, 3 * OBJECT, ZERO);
    expect(await objects(store)).toEqual([]);
    expect(await volume.allocatedObjects()).toEqual({ own: 0, all: 0 });
  });

  test('trims give the space of blocks and of objects back', async () => {
    const { store, volume } = await made();
    const used = () => store.disk.tree.names.room.usedBlocks;
    const before = used();
    await volume.write(0, blocks(80, 1), PLAIN);
    expect(used() - before).toBeGreaterThan(80);
    await volume.trim(B, 4 * B, PLAIN);
    const trimmed = used();
    await volume.trim(0, record.sizeBytes, PLAIN);
    expect(used()).toBeLessThan(trimmed - 70);
  });

  test('the last object is whole where the disk ends, and is freed as one', async () => {
    const store = await SimStore.open();
    const short = recordOf({ sizeBytes: 2 * OBJECT + 3 * B });
    await makeVolume({ store: store.farm, record: short });
    const volume = await openVolume({ store: store.farm, record: short });
    await volume.write(2 * OBJECT, blocks(3, 1), PLAIN);
    expect(await volume.extents(2 * OBJECT, 3 * B, 9)).toEqual([
      { length: 3 * B, hole: false, zero: false },
    ]);
    await volume.trim(2 * OBJECT, 3 * B, PLAIN);
    expect(await objects(store)).toEqual([]);
  });

  test('a question about many holes costs no more steps than one about few', async () => {
    const store = await SimStore.open();
    const sparse = recordOf({ sizeBytes: 8_000 * OBJECT });
    await makeVolume({ store: store.farm, record: sparse });
    const volume = await openVolume({ store: store.farm, record: sparse });
    await volume.write(7_999 * OBJECT, blocks(1, 1), PLAIN);
    let told = 0;
    let steps = 0;
    void volume.extents(0, sparse.sizeBytes, 9).then((extents) => {
      told = extents.length;
    });
    for (; told === 0; steps += 1) await undefined;
    expect(told).toBe(3);
    expect(steps).toBeLessThan(50);
  });

  test('reading, trimming and zeroing what nobody wrote makes nothing', async () => {
    const { store, volume } = await made();
    await read(volume, 0, record.sizeBytes);
    await volume.trim(0, record.sizeBytes, DURABLE);
    await volume.writeZeroes(5, record.sizeBytes - 9, { ...ZERO, durable: true });
    await volume.prefetch(0, record.sizeBytes);
    await volume.extents(0, record.sizeBytes, 100);
    expect(await objects(store)).toEqual([]);
  });

  test('a prefetch reads the objects that there are, and no holes', async () => {
    const store = await SimStore.open();
    const read: number[] = [];
    const watched = hooked(store.farm, (operation, [name]) => {
      if (operation === 'read' && name?.kind === KIND.data) read.push(name.index);
    });
    await makeVolume({ store: watched, record });
    const volume = await openVolume({ store: watched, record });
    await volume.write(2 * OBJECT, blocks(1, 1), PLAIN);
    await volume.prefetch(0, record.sizeBytes);
    expect(read).toEqual([2]);
  });

  test('zeroes that keep their space are reserved, in objects that are made for it', async () => {
    const { store, volume } = await made();
    const { usedBlocks } = store.disk.tree.names.room;
    await volume.writeZeroes(B, 2 * OBJECT, KEEP);
    expect(await objects(store)).toEqual([0, 1, 2]);
    expect(store.disk.tree.names.room.usedBlocks).toBeGreaterThan(usedBlocks + 16);
    expect(await volume.extents(0, 3 * OBJECT, 10)).toEqual([
      { length: B, hole: true, zero: true },
      { length: 2 * OBJECT, hole: false, zero: true },
      { length: OBJECT - B, hole: true, zero: true },
    ]);
    expect(await read(volume, 0, 3 * OBJECT)).toEqual(new Uint8Array(3 * OBJECT));
  });
});

describe('fast zeroes', () => {
  test.for([
    [0, OBJECT, true],
    [B, 3 * B, true],
    [1, B, false],
    [0, B + 1, false],
    [B + 1, B - 1, false],
  ] as const)('of bytes %i and %i more', async ([at, length, fast]) => {
    const { volume } = await made();
    await volume.write(0, blocks(16, 1), PLAIN);
    for (const call of [ZERO, KEEP]) {
      const code = await codeOf(() => volume.writeZeroes(at, length, { ...call, fastOnly: true }));
      expect(code).toBe(fast ? 'none' : 'ERR_NOT_FAST');
      if (!fast) expect(await read(volume, 0, 16 * B)).toEqual(blocks(16, 1));
    }
  });
});

describe('what a flush or a durable write promises', () => {
  test('a durable first write is there after a power cut, entry and all', async () => {
    const { store, open, volume } = await made();
    await volume.write(OBJECT + 5, blocks(1, 1), DURABLE);
    await store.powerCut();
    expect(await read(await open(), OBJECT + 5, B)).toEqual(blocks(1, 1));
  });

  test('a durable write waits for the entry of an earlier first write to its object', async () => {
    const { store, open, volume } = await made();
    await volume.write(0, blocks(1, 1), PLAIN);
    await volume.write(B, blocks(1, 2), DURABLE);
    await store.powerCut();
    expect(await read(await open(), B, B)).toEqual(blocks(1, 2));
  });

  test('a flush of a range covers it', async () => {
    const { store, open, volume } = await made();
    await volume.write(0, blocks(24, 1), PLAIN);
    await volume.flush({ range: { at: OBJECT, length: 1 } });
    await volume.write(OBJECT, blocks(1, 2), PLAIN);
    await volume.flush({ range: { at: OBJECT, length: B } });
    await store.powerCut();
    expect(await read(await open(), OBJECT, 2 * B)).toEqual(
      Uint8Array.from([...blocks(1, 2), ...blocks(1, 1)]),
    );
  });

  test('a trimmed object does not come back', async () => {
    const { store, open, volume } = await made();
    await volume.write(0, blocks(8, 1), DURABLE);
    await volume.trim(0, OBJECT, PLAIN);
    await store.powerCut();
    expect(await read(await open(), 0, OBJECT)).toEqual(new Uint8Array(OBJECT));
  });

  test('closing flushes', async () => {
    const { store, open, volume } = await made();
    await volume.write(0, blocks(1, 1), PLAIN);
    await volume[Symbol.asyncDispose]();
    await store.powerCut();
    expect(await read(await open(), 0, B)).toEqual(blocks(1, 1));
  });
});

describe('requests to one object at the same time', () => {
  test('the first writes to an object make it once', async () => {
    const { store, volume } = await made();
    const writes = Array.from({ length: 8 }, (_, block) =>
      volume.write(block * B, blocks(1, block + 1), PLAIN),
    );
    await Promise.all(writes);
    const shown = await read(volume, 0, OBJECT);
    for (let block = 0; block < 8; block += 1) expect(shown[block * B]).toBe(block + 1);
    expect(await objects(store)).toEqual([0]);
  });

  test('a read of an object that is being made waits for it', async () => {
    const { delay, hold, letGo } = holding();
    const { volume } = await made({ disk: { delay } });
    hold('sync');
    const writing = volume.write(0, blocks(8, 1), PLAIN);
    const reading = read(volume, 0, OBJECT);
    expect(volume.zeroNow(0, B)).toBe(false);
    letGo();
    await writing;
    expect(await reading).toEqual(blocks(8, 1));
  });

  test('trims, writes, reads and questions never meet an object that is gone', async () => {
    const { store, volume } = await made();
    const random = simRandom(7);
    const errors: string[] = [];
    const at = () => random.below(3) * OBJECT;
    for (let round = 0; round < 200; round += 1) {
      const requests = Array.from({ length: 6 }, () => {
        switch (random.below(5)) {
          case 0:
            return () => volume.trim(at(), OBJECT, PLAIN);
          case 1:
            return () => volume.extents(0, 3 * OBJECT, 9);
          case 2:
            return () => read(volume, at(), OBJECT);
          case 3:
            return () => volume.writeZeroes(at(), OBJECT - B, random.below(2) ? KEEP : ZERO);
          default:
            return () => volume.write(at() + B, blocks(2, 1), PLAIN);
        }
      });
      const codes = await Promise.all(requests.map((request) => codeOf(request)));
      errors.push(...codes.filter((code) => code !== 'none'));
      if (round % 20 === 0) await store.farm.maintain();
    }
    expect(errors).toEqual([]);
  });
});
