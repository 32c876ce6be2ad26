import { expect, test } from 'vitest';
import type { ObjectName } from '../../src/base/ids.ts';
import type { ObjectStore, ObjectWriteCall } from '../../src/contracts/object-store.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { ObjectModel } from './object-model.ts';
import {
  B,
  CREATE,
  codeOf,
  DURABLE,
  expectBytes,
  extents,
  filled,
  KEEP,
  nameOf,
  PLAIN,
  read,
  SIZE,
  STAMP,
  type Stop,
  type StoreWorld,
  VID,
  ZERO,
} from './object-store-tools.ts';

/** The same object in the vid that comes `generation` after the first: same index, same slot. */
const heir = (generation: number, index = 0): ObjectName => ({
  ...nameOf(index),
  vid: VID + generation,
});
const P = heir(0);
const W = heir(1);
const inherits = (vid: number): ObjectWriteCall => ({ ...CREATE, inherits: vid });
const FROM_P = inherits(P.vid);

/** Blocks: 0 a hole, 1 to 3 data, 4 reserved zeroes, 5 to 7 holes. */
async function frozen(store: ObjectStore): Promise<Uint8Array> {
  const bytes = filled(SIZE, 0);
  bytes.set(simRandom(3).bytes(3 * B), B);
  await store.write(P, B, bytes.subarray(B, 4 * B), CREATE);
  await store.zero(P, 4 * B, B, KEEP);
  await store.flush(VID);
  return bytes;
}

/** What an object that inherits does, in contracts/object-store.ts. */
export function inheritanceContract(open: () => Promise<StoreWorld>, stops: readonly Stop[]): void {
  test('blocks that nobody wrote read as those of the other object', async () => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.write(W, 2 * B, filled(B, 9), FROM_P);
    expectBytes(await read(world.store, W, 0, SIZE), bytes.slice().fill(9, 2 * B, 3 * B));
    for (const [at, length] of [
      [B - 3, 6],
      [B, B],
      [2 * B - 1, B + 2],
      [3 * B + 7, 1],
      [3 * B + 7, 5 * B - 7],
    ] as const) {
      const expected = bytes
        .slice()
        .fill(9, 2 * B, 3 * B)
        .subarray(at, at + length);
      expectBytes(await read(world.store, W, at, length), expected);
    }
    expectBytes(await read(world.store, P, 0, SIZE), bytes);
  });

  test('sources and extents say where the bytes are and what they are', async () => {
    await using world = await open();
    await frozen(world.store);
    await world.store.write(W, 0, filled(B, 9), FROM_P);
    await world.store.zero(W, 2 * B, B, ZERO);
    await world.store.zero(W, 5 * B, B, KEEP);
    const [p, w] = [P.vid, W.vid];
    expect([...(await world.store.sources(W))]).toEqual([w, p, 0, p, p, w, 0, 0]);
    expect([...(await world.store.sources(P))]).toEqual([0, p, p, p, p, 0, 0, 0]);
    expect(await extents(world.store, W)).toBe(
      'data 8192, hole 4096, data 4096, zero 8192, hole 8192',
    );
    expect(await extents(world.store, W, B + 5, 3 * B)).toBe(
      'data 4091, hole 4096, data 4096, zero 5',
    );
    expect(await codeOf(() => world.store.sources(heir(2)))).toBe('ERR_MISSING');
  });

  test('a part of an inherited block is written or zeroed, and the rest of it stays', async () => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.write(W, B + 100, filled(10, 9), FROM_P);
    bytes.fill(9, B + 100, B + 110);
    await world.store.zero(W, 2 * B + 100, 10, ZERO);
    bytes.fill(0, 2 * B + 100, 2 * B + 110);
    await world.store.zero(W, 3 * B - 5, 10, KEEP);
    bytes.fill(0, 3 * B - 5, 3 * B + 5);
    expectBytes(await read(world.store, W, 0, SIZE), bytes);
    expect([...(await world.store.sources(W))].slice(0, 5)).toEqual([0, 8, 8, 8, 7]);
  });

  test.for([
    ['a write of zeroes', (store: ObjectStore) => store.write(W, B, filled(B, 0), PLAIN)],
    ['a zero', (store: ObjectStore) => store.zero(W, B, B, ZERO)],
    ['a zero that reserves', (store: ObjectStore) => store.zero(W, B, B, KEEP)],
    ['a write of zeroes to what is its own', zeroOver],
    ['a write that leaves nothing but zeroes', leaveZeroes],
  ] as const)('%s hides what was inherited', async ([, act]) => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.write(W, 7 * B, filled(B, 9), FROM_P);
    await act(world.store);
    await world.store.write(W, 3 * B, filled(B, 8), PLAIN);
    bytes
      .fill(0, B, 2 * B)
      .fill(8, 3 * B, 4 * B)
      .fill(9, 7 * B);
    expectBytes(await read(world.store, W, 0, SIZE), bytes);
  });

  test('a zero may make it, and one that covers everything leaves nothing inherited', async () => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.zero(W, B, B, { ...ZERO, createBytes: SIZE, inherits: VID });
    expectBytes(await read(world.store, W, 0, SIZE), bytes.fill(0, B, 2 * B));
    await world.store.zero(W, 0, SIZE, ZERO);
    expectBytes(await read(world.store, W, 0, SIZE), filled(SIZE, 0));
    expect([...(await world.store.sources(W))]).toEqual(new Array(8).fill(0));
    expect(await extents(world.store, W)).toBe('hole 32768');
  });

  test('what an orphan of the name held or inherited is discarded', async () => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.write(W, B, filled(2 * B, 9), FROM_P);
    await world.store.write(W, 7 * B, filled(B, 8), FROM_P);
    expectBytes(await read(world.store, W, 0, SIZE), bytes.slice().fill(8, 7 * B));
    await world.store.write(W, 7 * B, filled(B, 7), CREATE);
    expectBytes(await read(world.store, W, 0, SIZE), filled(SIZE, 0).fill(7, 7 * B));
  });

  test('only an object that is there, and as large, can be inherited from', async () => {
    await using world = await open();
    await frozen(world.store);
    const { store } = world;
    const large = { ...FROM_P, createBytes: SIZE + 1 };
    expect(await codeOf(() => store.write(W, 0, filled(B, 1), large))).toBe('ERR_CORRUPT');
    expect(await codeOf(() => store.write(W, 0, filled(B, 1), inherits(99)))).toBe('ERR_MISSING');
    expect(await codeOf(() => store.read(W, 0, new Uint8Array(1)))).toBe('ERR_MISSING');
    await store.write(W, 0, filled(B, 1), FROM_P);
    expect(await read(store, W, 0, B)).toEqual(filled(B, 1));
  });

  test('through many generations each block is found where it was last written', async () => {
    await using world = await open();
    const model = await frozen(world.store);
    const sources = [...(await world.store.sources(P))];
    for (let generation = 1; generation <= 50; generation += 1) {
      const name = heir(generation);
      const at = (generation % 7) * B;
      await world.store.write(name, at, filled(B, generation), inherits(name.vid - 1));
      model.fill(generation, at, at + B);
      sources[at / B] = name.vid;
      expectBytes(await read(world.store, name, 0, SIZE), model);
      expect([...(await world.store.sources(name))]).toEqual(sources);
    }
    expectBytes(await read(world.store, P, 0, B), filled(B, 0));
  });

  test.for(stops)('all of it is there after a %s', async (how) => {
    await using world = await open();
    const bytes = await frozen(world.store);
    await world.store.write(W, 2 * B, filled(B, 9), FROM_P);
    await world.store.write(heir(1, 1), 0, filled(1, 0), CREATE);
    await world.store.write(heir(2), 7 * B, filled(B, 6), inherits(W.vid));
    await world.store.flush(W.vid);
    await world.store.flush(W.vid + 1);
    await world.store.zero(W, B, B, ZERO);
    await world.store.write(W, 3 * B, filled(B, 0), DURABLE);
    await world.store.zero(W, 5 * B, B, { ...KEEP, durable: true });
    const store = await world.stop(how);
    const before = bytes.slice().fill(9, 2 * B, 3 * B);
    expectBytes(await read(store, heir(2), 0, SIZE), before.slice().fill(6, 7 * B));
    expectBytes(await read(store, W, 0, SIZE), before.fill(0, B, 2 * B).fill(0, 3 * B, 4 * B));
    expectBytes(await read(store, P, 0, SIZE), bytes);
    await store.write(W, 0, filled(B, 5), PLAIN);
    expectBytes(await read(store, W, 0, SIZE), before.fill(5, 0, B));
  });

  test.for([1, 2, 3, 4, 5, 6])(
    'any burst does what it does one by one, over generations (%i)',
    async (seed) => {
      await using world = await open();
      const model = new ObjectModel(
        simRandom(seed),
        [0, 1, 257].map((each) => heir(0, each)),
        STAMP,
      );
      for (let generation = 0; generation < 4; generation += 1) {
        for (let burst = 0; burst < 10; burst += 1) await model.burst(world.store, 1 + burst);
        await model.compare(world.store);
        model.freeze();
      }
      expect(model.mismatches).toEqual([]);
    },
  );

  test.for([1, 2, 3])(
    'bursts over generations, flushed and stopped again and again (%i)',
    async (seed) => {
      await using world = await open();
      let { store } = world;
      const random = simRandom(seed);
      const model = new ObjectModel(
        random,
        [0, 1, 257].map((each) => heir(0, each)),
        STAMP,
      );
      for (let life = 0; life < 6; life += 1) {
        for (let burst = 0; burst < 6; burst += 1) await model.burst(store, 1 + random.below(12));
        const how = stops[random.below(stops.length)] as Stop;
        if (how === 'power cut') await model.flush(store);
        store = await world.stop(how);
        await model.compare(store);
        if (life % 2 === 1) model.freeze();
      }
      expect(model.mismatches).toEqual([]);
    },
  );
}

async function zeroOver(store: ObjectStore): Promise<void> {
  await store.write(W, B, filled(2 * B, 4), PLAIN);
  await store.flush(W.vid);
  await store.write(W, B, filled(B, 0), PLAIN);
  const bytes = await read(store, P, 2 * B, B);
  await store.write(W, 2 * B, bytes, PLAIN);
}

async function leaveZeroes(store: ObjectStore): Promise<void> {
  await store.write(W, B, filled(B - 1, 0), PLAIN);
  await store.write(W, 2 * B - 1, filled(1, 0), PLAIN);
}
