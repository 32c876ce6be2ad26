import { describe, expect, test } from 'vitest';
import { KIND, type ObjectName } from '../../src/base/ids.ts';
import type { Completion } from '../../src/contracts/call.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { ObjectModel } from './object-model.ts';
import { inheritanceContract } from './object-store-inheritance.ts';
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
  oids,
  PLAIN,
  read,
  SIZE,
  STAMP,
  type Stop,
  type StoreWorld,
  VID,
  ZERO,
} from './object-store-tools.ts';

const X = nameOf(0);
const Y = nameOf(257);

/** What any ObjectStore must do: every sentence of contracts/object-store.ts. */
export function objectStoreContract(
  name: string,
  open: () => Promise<StoreWorld>,
  stops: readonly Stop[],
): void {
  describe(`${name} is an ObjectStore: one after the other`, () => oneByOne(open));
  describe(`${name} is an ObjectStore: at once`, () => atOnce(open));
  describe(`${name} is an ObjectStore: what is left after a stop`, () => afterStops(open, stops));
  describe(`${name} is an ObjectStore: what is inherited`, () => inheritanceContract(open, stops));
}

function oneByOne(open: () => Promise<StoreWorld>): void {
  test('what was never written is missing, whatever is asked of it', async () => {
    await using world = await open();
    const { store } = world;
    expect(await codeOf(() => store.read(X, 0, new Uint8Array(1)))).toBe('ERR_MISSING');
    expect(await codeOf(() => store.write(X, 0, filled(B, 1), PLAIN))).toBe('ERR_MISSING');
    expect(await codeOf(() => store.zero(X, 0, B, ZERO))).toBe('ERR_MISSING');
    expect(await codeOf(() => store.extents(X, 0, B))).toBe('ERR_MISSING');
    expect(await codeOf(() => store.read(X, 0, new Uint8Array(1)))).toBe('ERR_MISSING');
  });

  test('a write that says so makes the object, of zeroes but for what was written', async () => {
    await using world = await open();
    await world.store.write(X, 2 * B, filled(B, 1), CREATE);
    expect(await read(world.store, X, 0, SIZE)).toEqual(filled(SIZE, 0).fill(1, 2 * B, 3 * B));
  });

  test('what an orphan of the name held is discarded when it is made again', async () => {
    await using world = await open();
    await world.store.write(X, 0, filled(SIZE, 1), CREATE);
    await world.store.write(X, 100, filled(50, 2), CREATE);
    expect(await read(world.store, X, 0, SIZE)).toEqual(filled(SIZE, 0).fill(2, 100, 150));
    await world.store.flush(VID);
    await world.store.zero(X, 0, B, { ...ZERO, createBytes: 2 * SIZE });
    expect(await read(world.store, X, 0, 2 * SIZE)).toEqual(filled(2 * SIZE, 0));
  });

  test('a read fills all of its memory, and only that, at any offset and length', async () => {
    await using world = await open();
    const bytes = simRandom(1).bytes(SIZE);
    await world.store.write(X, 0, bytes, CREATE);
    for (const [at, length] of ranges(SIZE)) {
      const large = filled(length + 20, 0xee);
      await world.store.read(X, at, large.subarray(10, 10 + length));
      expectBytes(large.subarray(10, 10 + length), bytes.subarray(at, at + length));
      expectBytes(large.subarray(0, 10), filled(10, 0xee));
      expectBytes(large.subarray(10 + length), filled(10, 0xee));
    }
  });

  test('a write lands at any offset and length, and the bytes around it stay', async () => {
    await using world = await open();
    const model = filled(SIZE, 0);
    await world.store.write(X, 0, filled(1, 0), CREATE);
    for (const [value, [at, length]] of ranges(SIZE).entries()) {
      const large = filled(length + 20, 0xee).fill(value + 1, 10, 10 + length);
      await world.store.write(X, at, large.subarray(10, 10 + length), PLAIN);
      model.fill(value + 1, at, at + length);
      expectBytes(await read(world.store, X, 0, SIZE), model);
    }
  });

  test.for([
    ['giving the space back', ZERO],
    ['keeping the space', KEEP],
  ] as const)('zeroed bytes read as zero and the bytes around stay, %s', async ([, call]) => {
    await using world = await open();
    for (const [at, length] of ranges(SIZE)) {
      await world.store.write(X, 0, filled(SIZE, 3), CREATE);
      await world.store.zero(X, at, length, call);
      expectBytes(await read(world.store, X, 0, SIZE), filled(SIZE, 3).fill(0, at, at + length));
    }
  });

  test('a zero that says so makes the object', async () => {
    await using world = await open();
    await world.store.zero(X, 3, SIZE - 3, { ...ZERO, createBytes: SIZE });
    expect(await read(world.store, X, 0, SIZE)).toEqual(filled(SIZE, 0));
    await world.store.zero(Y, B, B, { ...KEEP, createBytes: SIZE });
    expect(await extents(world.store, Y)).toBe('hole 4096, zero 4096, hole 24576');
  });

  test('extents tell data from reserved zeroes and from holes', async () => {
    await using world = await open();
    await world.store.write(X, B, filled(4 * B, 1), CREATE);
    expect(await extents(world.store, X)).toBe('hole 4096, data 16384, hole 12288');
    await world.store.zero(X, 2 * B, B, ZERO);
    await world.store.zero(X, 3 * B, B, KEEP);
    expect(await extents(world.store, X)).toBe(
      'hole 4096, data 4096, hole 4096, zero 4096, data 4096, hole 12288',
    );
  });

  test('extents are whole blocks but for the two ends, and cover what was asked', async () => {
    await using world = await open();
    await world.store.write(X, B, filled(B, 1), CREATE);
    expect(await extents(world.store, X, 100, 2 * B)).toBe('hole 3996, data 4096, hole 100');
    expect(await extents(world.store, X, B + 5, 1)).toBe('data 1');
    await world.store.write(X, 5 * B + 7, filled(1, 1), PLAIN);
    expect(await extents(world.store, X, 5 * B, 2 * B)).toBe('data 4096, hole 4096');
  });

  test('zeroing a part of a block leaves what the rest of it is', async () => {
    await using world = await open();
    await world.store.write(X, 0, filled(B, 1), CREATE);
    await world.store.zero(X, 10, 20, ZERO);
    await world.store.zero(X, B + 10, 20, ZERO);
    expect(await extents(world.store, X, 0, 2 * B)).toBe('data 4096, hole 4096');
  });

  test('zeroing that keeps the space reserves blocks of which it meets a part', async () => {
    await using world = await open();
    await world.store.zero(X, 10, 2 * B, { ...KEEP, createBytes: SIZE });
    expect(await extents(world.store, X, 0, 4 * B)).toBe('zero 12288, hole 4096');
  });

  test('a removed object is missing; to remove it again is no error', async () => {
    await using world = await open();
    await world.store.write(X, 0, filled(B, 1), CREATE);
    await world.store.remove(X, PLAIN);
    expect(await codeOf(() => world.store.read(X, 0, new Uint8Array(1)))).toBe('ERR_MISSING');
    await world.store.remove(X, PLAIN);
    await world.store.remove(Y, PLAIN);
    await world.store.flush(VID);
  });

  test('a removed name can be made anew, and holds nothing of its earlier life', async () => {
    await using world = await open();
    await world.store.write(X, 0, filled(SIZE, 1), CREATE);
    await world.store.flush(VID);
    await world.store.remove(X, PLAIN);
    await world.store.write(X, B, filled(B, 2), CREATE);
    expect(await read(world.store, X, 0, SIZE)).toEqual(filled(SIZE, 0).fill(2, B, 2 * B));
  });

  test('objects know nothing of each other', async () => {
    await using world = await open();
    const names = [X, Y, nameOf(0, VID + 1), nameOf(0, 2 ** 32 - 1), nameOf(2 ** 28 - 1)];
    const node: ObjectName = { ...X, kind: KIND.inode };
    for (const [value, each] of [...names, node].entries()) {
      await world.store.write(each, 0, filled(B, value + 1), CREATE);
    }
    await world.store.remove(Y, PLAIN);
    for (const [value, each] of [...names, node].entries()) {
      if (each === Y) expect(await codeOf(() => read(world.store, each, 0, 1))).toBe('ERR_MISSING');
      else expect(await read(world.store, each, 0, B)).toEqual(filled(B, value + 1));
    }
  });

  test('a buffer is the caller’s again once the operation is settled', async () => {
    await using world = await open();
    const bytes = filled(SIZE, 9);
    await world.store.write(X, 0, bytes, CREATE);
    await world.store.write(X, 1, bytes.subarray(1), PLAIN);
    bytes.fill(1);
    const into = await read(world.store, X, 0, SIZE);
    expect(into).toEqual(filled(SIZE, 9));
    into.fill(2);
    await world.store.flush(VID);
    expect(await read(world.store, X, 0, SIZE)).toEqual(filled(SIZE, 9));
  });

  test('flushing what was never written, is missing or is of nobody settles', async () => {
    await using world = await open();
    await world.store.flush(VID);
    await world.store.flush(VID, []);
    await world.store.flush(VID, [X, Y]);
    await world.store.write(X, 0, filled(B, 1), CREATE);
    await world.store.flush(VID + 1);
    await world.store.flush(VID, [Y, X]);
    await Promise.all([world.store.flush(VID), world.store.flush(VID), world.store.flush(VID)]);
  });
}

function atOnce(open: () => Promise<StoreWorld>): void {
  test('overlapping operations take effect in the order of their calls, reads included', async () => {
    await using world = await open();
    const { store } = world;
    const seen: string[] = [];
    const look = async () => {
      const into = filled(B, 0xee);
      const code = await codeOf(() => store.read(X, 0, into));
      return code === 'none' ? `${into[0]} ${into[B - 1]}` : code;
    };
    const waiting: Completion[] = [];
    const then = (result: Completion | Promise<unknown>) => {
      waiting.push(Promise.resolve(result).then(() => undefined));
    };
    const note = () => {
      const place = seen.push('') - 1;
      const told = (text: string) => {
        seen[place] = text;
      };
      then(look().then(told));
    };
    note();
    then(store.write(X, 0, filled(B, 1), CREATE));
    note();
    then(store.write(X, B - 1, filled(2, 2), PLAIN));
    note();
    then(store.write(X, 0, filled(2 * B, 3), DURABLE));
    note();
    then(store.zero(X, 0, 5, ZERO));
    note();
    then(store.remove(X, PLAIN));
    note();
    then(store.write(X, 0, filled(1, 4), CREATE));
    note();
    then(store.zero(X, 0, SIZE, { ...KEEP, createBytes: SIZE }));
    note();
    await Promise.all(waiting);
    expect(seen).toEqual(['ERR_MISSING', '1 1', '1 2', '3 3', '0 3', 'ERR_MISSING', '4 0', '0 0']);
  });

  test.for([1, 2, 3, 4, 5, 6])(
    'any burst of operations does what it does one by one (%i)',
    async (seed) => {
      await using world = await open();
      const model = new ObjectModel(simRandom(seed), [X, Y, nameOf(1)], STAMP);
      for (let burst = 0; burst < 25; burst += 1) await model.burst(world.store, 1 + (burst % 12));
      expect(model.mismatches).toEqual([]);
      expect(model.reads).toBeGreaterThan(20);
    },
  );
}

function afterStops(open: () => Promise<StoreWorld>, stops: readonly Stop[]): void {
  test.for(stops)('everything that a flush covered is there after a %s', async (how) => {
    await using world = await open();
    await world.store.write(X, 0, filled(SIZE, 1), CREATE);
    await world.store.write(Y, B, filled(B, 2), CREATE);
    await world.store.flush(VID);
    await world.store.zero(X, B, B, ZERO);
    await world.store.zero(X, 2 * B, B, KEEP);
    await world.store.write(X, 3 * B + 5, filled(B, 3), PLAIN);
    await world.store.remove(Y, PLAIN);
    await world.store.write(nameOf(1), 5, filled(1, 4), CREATE);
    await world.store.flush(VID);
    const store = await world.stop(how);
    const expected = filled(SIZE, 1)
      .fill(0, B, 3 * B)
      .fill(3, 3 * B + 5, 4 * B + 5);
    expect(await read(store, X, 0, SIZE)).toEqual(expected);
    expect(await codeOf(() => read(store, Y, 0, 1))).toBe('ERR_MISSING');
    expect(await read(store, nameOf(1), 0, SIZE)).toEqual(filled(SIZE, 0).fill(4, 5, 6));
  });

  test.for(stops)('a flush of some objects covers these before a %s', async (how) => {
    await using world = await open();
    await world.store.write(X, 0, filled(B, 1), CREATE);
    await world.store.write(Y, 0, filled(B, 2), CREATE);
    await world.store.flush(VID, [X, Y]);
    await world.store.write(X, 0, filled(B, 3), PLAIN);
    await world.store.zero(Y, 0, B, ZERO);
    await world.store.flush(VID, [Y, X]);
    const store = await world.stop(how);
    expect(await read(store, X, 0, B)).toEqual(filled(B, 3));
    expect(await read(store, Y, 0, B)).toEqual(filled(B, 0));
  });

  test.for(stops)('what was durable is there after a %s, without a flush', async (how) => {
    await using world = await open();
    await world.store.write(X, 0, filled(2 * B, 1), { ...CREATE, durable: true });
    await world.store.write(X, 3, filled(1, 2), DURABLE);
    await world.store.zero(X, B, B, { ...ZERO, durable: true });
    await world.store.write(Y, 0, filled(B, 1), CREATE);
    await world.store.remove(Y, DURABLE);
    const Z = nameOf(5);
    await world.store.write(Z, 0, filled(B, 1), { ...CREATE, durable: true });
    await world.store.write(Z, 0, filled(B, 2), DURABLE);
    const store = await world.stop(how);
    expect(await read(store, Z, 0, B)).toEqual(filled(B, 2));
    expect(await read(store, X, 0, 2 * B)).toEqual(
      filled(2 * B, 0)
        .fill(1, 0, B)
        .fill(2, 3, 4),
    );
    expect(await codeOf(() => read(store, Y, 0, 1))).toBe('ERR_MISSING');
  });

  const short = stops.filter((stop) => stop !== 'power cut');
  test.for(short)('everything that was answered is there after a %s', async (how) => {
    await using world = await open();
    await world.store.write(X, 0, filled(SIZE, 1), CREATE);
    await world.store.zero(X, 0, B, ZERO);
    await world.store.write(X, 2 * B + 1, filled(2, 2), PLAIN);
    await world.store.write(Y, 0, filled(B, 2), CREATE);
    await world.store.remove(Y, PLAIN);
    const store = await world.stop(how);
    const expected = filled(SIZE, 1)
      .fill(0, 0, B)
      .fill(2, 2 * B + 1, 2 * B + 3);
    expect(await read(store, X, 0, SIZE)).toEqual(expected);
    expect(await codeOf(() => read(store, Y, 0, 1))).toBe('ERR_MISSING');
  });

  const unclean = stops.filter((stop) => stop !== 'clean stop');
  test.for(unclean)('objects in use, made and removed are unsettled after a %s', async (how) => {
    await using world = await open();
    for (const index of [0, 1, 2]) await world.store.write(nameOf(index), 0, filled(B, 1), CREATE);
    await world.store.remove(nameOf(1), PLAIN);
    await world.store.write(nameOf(0, VID + 1), 0, filled(B, 1), CREATE);
    const store = await world.stop(how);
    expect(oids(store.unsettled(VID))).toEqual(expect.arrayContaining(['7/0', '7/1', '7/2']));
    expect(oids(store.unsettled(VID + 1))).toEqual(['8/0']);
    expect(store.unsettled(VID + 2)).toEqual([]);
    const [first] = store.unsettled(VID + 1);
    expect(first).toEqual(nameOf(0, VID + 1));
  });

  test.for(stops)('announced objects are unsettled after a %s, held or not', async (how) => {
    await using world = await open();
    await world.store.write(X, 0, filled(B, 1), CREATE);
    await world.store.announce([X, Y], SIZE, PLAIN);
    const store = await world.stop(how);
    expect(oids(store.unsettled(VID))).toEqual(['7/0', '7/257']);
  });

  test.for([1, 2, 3])(
    'bursts of operations, flushed and stopped again and again (%i)',
    async (seed) => {
      await using world = await open();
      let { store } = world;
      const random = simRandom(seed);
      const model = new ObjectModel(random, [X, Y, nameOf(1)], STAMP);
      for (let life = 0; life < 4; life += 1) {
        for (let burst = 0; burst < 8; burst += 1) await model.burst(store, 1 + random.below(12));
        const how = stops[random.below(stops.length)] as Stop;
        if (how === 'power cut') await store.flush(VID);
        store = await world.stop(how);
        await model.compare(store);
      }
      expect(model.mismatches).toEqual([]);
    },
  );
}

/** Of a block, of several, of parts of them, over borders. */
function ranges(size: number): [at: number, length: number][] {
  return [
    [0, 1],
    [0, B],
    [0, size],
    [1, 3],
    [B - 1, 2],
    [B, 2 * B],
    [B + 5, 2 * B],
    [3 * B - 7, B + 14],
    [5 * B, B - 1],
    [6 * B + 1, B - 1],
    [size - 1, 1],
  ];
}
