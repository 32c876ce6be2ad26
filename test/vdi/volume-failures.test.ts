import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KIND, type ObjectName } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import { LEAF_ENTRIES } from '../../src/vdi/inode-format.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { blocks, codeOf, DIRECTORY, nameOf, pathOf } from '../farm/store.ts';
import { hooked, made, objects, ROOMY_LIMITS, read, recordOf, VID } from './stores.ts';

const B = BLOCK_BYTES;
const OBJECT = recordOf().objectBytes;
const PLAIN = { durable: false };
const DURABLE = { durable: true };
const ZERO = { durable: false, keepAllocated: false, fastOnly: false };
const KEEP = { ...ZERO, keepAllocated: true };

/** A store whose writes may be kept waiting, or fail once: `how` answers those it is asked about. */
function withWrites(
  store: ObjectStore,
  how: (name: ObjectName, at: number) => Promise<void> | undefined,
): ObjectStore {
  const over = hooked(store, () => undefined);
  const { write } = over;
  return {
    ...over,
    write: (name, at, ...rest) => how(name, at) ?? write(name, at, ...rest),
  };
}

describe('a request that fails', () => {
  /** Fails the next operation of this kind on a node, or on an object. */
  function once(operation: string, kind: number) {
    let due = false;
    return {
      arm: () => {
        due = true;
      },
      before: (asked: string, names: readonly { kind: number }[]) => {
        if (!due || asked !== operation || names[0]?.kind !== kind) return;
        due = false;
        throw new SheepError('ERR_NO_SPACE', 'as the test wants');
      },
    };
  }

  test.for([
    ['a write', (volume: Volume) => volume.write(0, blocks(2, 1), PLAIN)],
    ['a reservation', (volume: Volume) => volume.writeZeroes(0, 2 * B, KEEP)],
  ] as const)(
    '%s without its entry leaves no object behind, and the next is kept',
    async ([, request]) => {
      const { store, open } = await made();
      const failing = once('write', KIND.inode);
      const volume = await open(hooked(store.farm, failing.before));
      failing.arm();
      expect(await codeOf(() => request(volume))).toBe('ERR_NO_SPACE');
      expect(await objects(store)).toEqual([]);
      expect(await read(volume, 0, B)).toEqual(blocks(1, 0));
      await volume.write(0, blocks(1, 3), DURABLE);
      await store.powerCut();
      expect(await read(await open(), 0, B)).toEqual(blocks(1, 3));
    },
  );

  test('a trim without its entry leaves the object as it is, to be written and kept', async () => {
    const { store, open } = await made();
    const failing = once('write', KIND.inode);
    const volume = await open(hooked(store.farm, failing.before));
    await volume.write(0, blocks(8, 1), DURABLE);
    failing.arm();
    expect(await codeOf(() => volume.trim(0, OBJECT, PLAIN))).toBe('ERR_NO_SPACE');
    await volume.write(0, blocks(1, 2), DURABLE);
    await store.powerCut();
    expect((await read(await open(), 0, OBJECT))[0]).toBe(2);
  });

  test('what goes on beside a trim that fails is answered when it has come true', async () => {
    const { store, open } = await made();
    const [asked, entry] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let held = false;
    const over = withWrites(store.farm, ({ kind }) => {
      if (!held || kind !== KIND.inode) return undefined;
      asked.resolve();
      return entry.promise;
    });
    const volume = await open(over);
    await volume.write(0, blocks(16, 1), DURABLE);
    held = true;
    const failing = codeOf(() => volume.trim(0, OBJECT, PLAIN));
    await asked.promise;
    const part = volume.writeZeroes(B, 2 * B, ZERO);
    const whole = volume.trim(0, 2 * OBJECT, PLAIN);
    held = false;
    entry.reject(new SheepError('ERR_NO_SPACE', 'as the test wants'));
    expect(await failing).toBe('ERR_NO_SPACE');
    await part;
    expect((await read(volume, 0, OBJECT)).subarray(B, 3 * B)).toEqual(new Uint8Array(2 * B));
    await whole;
    expect(await read(volume, 0, 2 * OBJECT)).toEqual(blocks(16, 0));
  });

  test('a trim whose object does not go leaves it to the next owner', async () => {
    const { store, open } = await made();
    const failing = once('remove', KIND.data);
    const volume = await open(hooked(store.farm, failing.before));
    await volume.write(0, blocks(8, 1), DURABLE);
    failing.arm();
    expect(await codeOf(() => volume.trim(0, OBJECT, PLAIN))).toBe('ERR_NO_SPACE');
    expect(await read(volume, 0, B)).toEqual(blocks(1, 0));
    await store.rest();
    await store.powerCut();
    expect(await objects(store)).toEqual([0]);
    await open();
    expect(await objects(store)).toEqual([]);
  });

  test('a read of a damaged object is an error, and its neighbours are not', async () => {
    const { store, open, volume } = await made();
    await volume.write(0, blocks(16, 1), DURABLE);
    await store.restart();
    store.disk.flipBit(`${DIRECTORY}/obj/00/${'0'.repeat(8)}50000000`, 3 * B, 0);
    const again = await open();
    expect(await codeOf(() => read(again, 0, 2 * OBJECT))).toBe('ERR_CORRUPT');
    expect(await codeOf(() => read(again, B, B))).toBe('ERR_CORRUPT');
    expect(await read(again, OBJECT, OBJECT)).toEqual(blocks(8, 1));
    expect(nameOf(0).vid).toBe(VID);
  });

  test('a leaf that is lost while its objects are in doubt withholds no other part of the disk', async () => {
    const sizeBytes = (LEAF_ENTRIES + 2) * OBJECT;
    const { store, open, volume } = await made({ record: recordOf({ sizeBytes }) });
    for (const index of [0, LEAF_ENTRIES]) {
      await volume.write(index * OBJECT, blocks(1, 1), DURABLE);
    }
    await store.kill();
    await store.disk.remove(pathOf(nameOf(1, VID, KIND.inode)));
    const again = await open();
    expect(await read(again, LEAF_ENTRIES * OBJECT, B)).toEqual(blocks(1, 1));
    expect(await codeOf(() => read(again, 0, B))).toBe('ERR_MISSING');
    expect(await codeOf(() => again.write(0, blocks(1, 1), PLAIN))).toBe('ERR_MISSING');
  });

  test('an object that was made and not written leaves nothing behind', async () => {
    const { store, open } = await made();
    const over = hooked(store.farm, () => undefined);
    const { write, zero } = over;
    const failing = new SheepError('ERR_IO', 'as the test wants');
    over.write = async (name, at, from, call) => {
      await write(name, at, from, call);
      if (call.createBytes !== undefined && name.kind === KIND.data) throw failing;
    };
    over.zero = async (name, at, length, call) => {
      await zero(name, at, length, call);
      if (call.createBytes !== undefined) throw failing;
    };
    const volume = await open(over);
    expect(await codeOf(() => volume.write(0, blocks(2, 1), PLAIN))).toBe('ERR_IO');
    expect(await codeOf(() => volume.writeZeroes(OBJECT, B, KEEP))).toBe('ERR_IO');
    expect(await objects(store)).toEqual([]);
    expect(await read(volume, 0, B)).toEqual(blocks(1, 0));
  });

  describe('a trim of which one entry is taken out and another one is not', () => {
    /** The entries of these two stand in two blocks of the inode. */
    const FIRST = 1023;
    const record = recordOf({ sizeBytes: (FIRST + 3) * OBJECT });

    /** Both are there, stable; then their trim fails. */
    async function halfTrimmed() {
      const it = await made({ record, limits: ROOMY_LIMITS });
      const failing = new Set<number>();
      const over = withWrites(it.store.farm, ({ kind }, at) => {
        if (kind !== KIND.inode || !failing.delete(at)) return undefined;
        return Promise.reject(new SheepError('ERR_NO_SPACE', 'as the test wants'));
      });
      const volume = await it.open(over);
      await volume.write(FIRST * OBJECT, blocks(1, 1), DURABLE);
      await volume.write((FIRST + 1) * OBJECT, blocks(1, 2), DURABLE);
      failing.add(B);
      const code = await codeOf(() => volume.trim(FIRST * OBJECT, 2 * OBJECT, PLAIN));
      expect(code).toBe('ERR_NO_SPACE');
      return { ...it, volume, failEntry: () => failing.add(0) };
    }
    const shown = async (volume: Volume) => [
      (await read(volume, FIRST * OBJECT, 1))[0],
      (await read(volume, (FIRST + 1) * OBJECT, 1))[0],
    ];

    test('frees the one and keeps the other', async () => {
      const { store, open, volume } = await halfTrimmed();
      expect(await shown(volume)).toEqual([0, 2]);
      expect(await objects(store)).toEqual([FIRST + 1]);
      await volume.trim(FIRST * OBJECT, 2 * OBJECT, PLAIN);
      expect(await objects(store)).toEqual([]);
      await store.powerCut();
      expect(await shown(await open())).toEqual([0, 0]);
    });

    test('leaves nothing that a failed write and a power cut could make of it', async () => {
      const { store, open, volume, failEntry } = await halfTrimmed();
      failEntry();
      const code = await codeOf(() => volume.write(FIRST * OBJECT, blocks(1, 3), PLAIN));
      expect(code).toBe('ERR_NO_SPACE');
      await store.powerCut();
      expect(await shown(await open())).toEqual([0, 2]);
    });

    test('lists for ever nothing that it announced', async () => {
      const { store } = await halfTrimmed();
      await store.rest();
      expect(store.farm.stats().listedObjects).toBe(0);
    });
  });
});

test('a disk that grows under a trim keeps what is written behind its former end', async () => {
  const record = recordOf({ sizeBytes: 2 * OBJECT + 4 * B });
  const { store, open } = await made({ record });
  const [asked, zeroing] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const over = hooked(store.farm, () => undefined);
  const { zero } = over;
  over.zero = async (...call) => {
    asked.resolve();
    await zeroing.promise;
    return zero(...call);
  };
  const volume = await open(over);
  await volume.write(0, blocks(20, 1), PLAIN);
  const trimming = volume.trim(B, 2 * OBJECT + 3 * B, PLAIN);
  await asked.promise;
  volume.resized({ ...record, sizeBytes: 3 * OBJECT });
  await volume.write(record.sizeBytes, blocks(1, 7), DURABLE);
  zeroing.resolve();
  await trimming;
  expect(await read(volume, 2 * OBJECT, 5 * B)).toEqual(
    Uint8Array.from([...blocks(4, 0), ...blocks(1, 7)]),
  );
});
