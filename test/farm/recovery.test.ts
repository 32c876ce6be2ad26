import { describe, expect, test } from 'vitest';
import { formatOid } from '../../src/base/ids.ts';
import type { Log } from '../../src/base/log.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import { dataAtOf, HEADER_BYTES, objectDirectory } from '../../src/farm/object-format.ts';
import {
  blocks,
  CREATE,
  codeOf,
  DIRECTORY,
  DURABLE,
  nameOf,
  OBJECT_BYTES,
  PLAIN,
  pathOf,
  read,
  SimStore,
  values,
  ZERO,
} from './store.ts';

const A = nameOf(0);
const B = nameOf(1);
const VID = A.vid;
const DATA_AT = dataAtOf(OBJECT_BYTES);

/** The events a store logs, with their facts. */
function listening() {
  const events: { name: string; facts: unknown }[] = [];
  const log: Log = { event: (_level, name, facts) => void events.push({ name, facts }) };
  const named = (name: string) =>
    events.filter((event) => event.name === name).map(({ facts }) => facts);
  return { log, named };
}

describe('a store that was stopped cleanly', () => {
  test('holds no object in doubt: all are held to their checksums', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.farm[Symbol.asyncDispose]();
    store.disk.flipBit(pathOf(A), DATA_AT, 0);
    store.disk = store.disk.powerCut('nothing');
    await store.kill();
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_CORRUPT');
  });

  test('keeps everything although no flush was ever asked for', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(8, 3), CREATE);
    await store.farm.zero(A, 0, BLOCK_BYTES, ZERO);
    await store.farm.remove(B, PLAIN);
    await store.farm[Symbol.asyncDispose]();
    await store.powerCut();
    expect(await values(store.farm, A)).toBe('0 3 3 3 3 3 3 3');
    expect(await codeOf(() => values(store.farm, B))).toBe('ERR_MISSING');
  });
});

describe('after a kill', () => {
  test('blocks whose checksum was on its way are adopted, and said', async () => {
    const { log, named } = listening();
    const store = await SimStore.open({ log });
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.farm.flush(VID);
    await store.farm.write(A, 0, blocks(2, 2), PLAIN);
    await store.kill();
    expect(await values(store.farm, A)).toBe('2 2 1 1 1 1 1 1');
    expect(named('farm.unclean-stop')).toEqual([expect.objectContaining({ suspects: 1 })]);
    expect(named('farm.adopted')).toEqual([{ oid: formatOid(A), adopted: 2 }]);
  });

  test('what was adopted is held to its checksum from then on', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.kill();
    expect(await values(store.farm, A, 1)).toBe('1');
    await store.rest();
    await store.restart();
    store.disk.flipBit(pathOf(A), DATA_AT, 0);
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_CORRUPT');
  });

  test('objects that were not in use are held to theirs at once', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(1, 1), CREATE);
    await store.rest();
    await store.farm.write(B, 0, blocks(1, 2), PLAIN);
    store.disk.flipBit(pathOf(A), DATA_AT, 0);
    await store.kill();
    expect(store.farm.unsettled(VID)).toEqual([B]);
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_CORRUPT');
    expect(await values(store.farm, B, 1)).toBe('2');
  });

  test('a suspect is found again by the next start if nobody opened it', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.kill();
    await store.rest();
    await store.kill();
    await store.powerCut();
    expect(store.farm.unsettled(VID)).toEqual([A]);
    expect(await values(store.farm, A)).toBe('1 1 1 1 1 1 1 1');
  });

  test('a suspect stays one over a clean stop if nobody opened it', async () => {
    const store = await SimStore.open();
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(8, 1), CREATE);
    await store.farm.flush(VID);
    for (const name of [A, B]) await store.farm.write(name, 0, blocks(2, 2), PLAIN);
    await store.kill();
    expect(await values(store.farm, A)).toBe('2 2 1 1 1 1 1 1');
    await store.restart();
    expect(store.farm.unsettled(VID)).toContainEqual(B);
    // Of A nothing is excused any more; B is what the disk says.
    store.disk.flipBit(pathOf(A), DATA_AT, 0);
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_CORRUPT');
    expect(await values(store.farm, B)).toBe('2 2 1 1 1 1 1 1');
  });

  test('a suspect with a damaged header is what its data says', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.farm.zero(A, BLOCK_BYTES, BLOCK_BYTES, ZERO);
    store.disk.flipBit(pathOf(A), 40, 0);
    await store.kill();
    expect(await values(store.farm, A)).toBe('1 0 1 1 1 1 1 1');
    expect(await store.farm.extents(A, 0, 3 * BLOCK_BYTES)).toEqual([
      { length: BLOCK_BYTES, content: 'data' },
      { length: BLOCK_BYTES, content: 'hole' },
      { length: BLOCK_BYTES, content: 'data' },
    ]);
    await store.restart();
    expect(await values(store.farm, A)).toBe('1 0 1 1 1 1 1 1');
  });

  test('a removal that the journal holds is finished', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    store.disk.failNext('remove', 'ERR_IO');
    expect(await codeOf(() => store.farm.remove(A, PLAIN))).toBe('ERR_IO');
    await store.kill();
    expect(await codeOf(() => values(store.farm, A))).toBe('ERR_MISSING');
  });

  test.for(['kill', 'powerCut'] as const)(
    '(%s) removed objects leave the activity log',
    async (stop) => {
      const store = await SimStore.open();
      const names = Array.from({ length: 50 }, (_, index) => nameOf(index));
      for (const name of names) await store.farm.write(name, 0, blocks(1, 1), CREATE);
      await store.farm.flush(VID);
      for (const name of names) await store.farm.remove(name, PLAIN);
      await store[stop]();
      await store.rest();
      expect(store.farm.stats().listedObjects).toBe(0);
    },
  );
});

describe('after a power cut', () => {
  test('what flushes put into the journal is put where it belongs', async () => {
    const { log, named } = listening();
    const store = await SimStore.open({ log });
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.farm.flush(VID);
    await store.farm.write(A, 0, blocks(1, 2), DURABLE);
    await store.farm.zero(A, BLOCK_BYTES, BLOCK_BYTES, { ...ZERO, durable: true });
    await store.farm.write(B, 0, blocks(1, 3), { ...CREATE, durable: true });
    await store.powerCut();
    expect(named('farm.power-cut')).toEqual([
      expect.objectContaining({ suspects: 2, objects: 2, blocks: 3 }),
    ]);
    expect(await values(store.farm, A)).toBe('2 0 1 1 1 1 1 1');
    expect(await values(store.farm, B, 2)).toBe('3 0');
    expect(await store.farm.extents(A, 0, 2 * BLOCK_BYTES)).toEqual([
      { length: BLOCK_BYTES, content: 'data' },
      { length: BLOCK_BYTES, content: 'hole' },
    ]);
  });

  test('an object removed and made again holds nothing of its earlier life', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(8, 1), CREATE);
    await store.farm.flush(VID);
    await store.farm.remove(A, PLAIN);
    await store.farm.write(A, BLOCK_BYTES, blocks(1, 2), { ...CREATE, durable: true });
    await store.powerCut();
    expect(await values(store.farm, A)).toBe('0 2 0 0 0 0 0 0');
  });

  test('recovery can be cut short anywhere and run again', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), { ...CREATE, durable: true });
    await store.farm.write(B, 0, blocks(1, 1), { ...CREATE, durable: true });
    await store.farm.remove(B, PLAIN);
    const cut = store.disk.powerCut('nothing');
    for (let operations = 0; operations < 400; operations += 1) {
      const again = cut.powerCut('nothing');
      let left = operations;
      again.injectFaults(() => {
        left -= 1;
        if (left < 0) again.halt();
        return undefined;
      });
      const opened = await codeOf(() => SimStore.on(again));
      const next = await SimStore.on(again.powerCut('nothing'));
      expect(await values(next.farm, A, 1)).toBe('1');
      expect(await codeOf(() => values(next.farm, B))).toBe('ERR_MISSING');
      if (opened === 'none') {
        expect(operations).toBeGreaterThan(20);
        return;
      }
    }
    throw new Error('recovery never comes to an end');
  });
});

describe('objects of every size', () => {
  test('of 64 MiB', async () => {
    const store = await SimStore.open();
    const call = { ...PLAIN, createBytes: 64 * MiB };
    await store.farm.write(A, 64 * MiB - 10, new Uint8Array(10).fill(1), call);
    await store.farm.write(A, 32 * MiB, blocks(3, 2), DURABLE);
    for (const stop of ['restart', 'kill', 'powerCut', 'restart'] as const) {
      await store.farm.flush(VID);
      await store[stop]();
      expect(await read(store.farm, A, 64 * MiB - 11, 11)).toEqual(
        Uint8Array.of(0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
      );
      expect(await read(store.farm, A, 32 * MiB, BLOCK_BYTES)).toEqual(blocks(1, 2));
      expect(await store.farm.extents(A, 0, 64 * MiB)).toEqual([
        { length: 32 * MiB, content: 'hole' },
        { length: 3 * BLOCK_BYTES, content: 'data' },
        { length: 32 * MiB - 4 * BLOCK_BYTES, content: 'hole' },
        { length: BLOCK_BYTES, content: 'data' },
      ]);
    }
    // One bit in the last page of its table.
    store.disk.flipBit(pathOf(A), HEADER_BYTES + 64 * 1024 - 1, 0);
    await store.restart();
    expect(await codeOf(() => read(store.farm, A, 0, 1))).toBe('ERR_CORRUPT');
  });

  test.for([1, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 77])(
    'of %i bytes',
    async (size) => {
      const store = await SimStore.open();
      const bytes = new Uint8Array(size).map((_, at) => at % 251);
      await store.farm.write(A, 0, bytes, { ...CREATE, createBytes: size });
      await store.farm.flush(VID);
      for (const stop of ['kill', 'powerCut', 'restart'] as const) {
        await store[stop]();
        expect(await read(store.farm, A, 0, size)).toEqual(bytes);
        bytes[size - 1] = (bytes[size - 1] as number) + 1;
        await store.farm.write(A, size - 1, bytes.subarray(size - 1), DURABLE);
        expect(await read(store.farm, A, size - 1, 1)).toEqual(bytes.subarray(size - 1));
      }
    },
  );

  test('lie in the folder of the low byte of their index', async () => {
    expect(objectDirectory('/s', nameOf(0x1ff))).toBe('/s/obj/ff');
    const store = await SimStore.open();
    await store.farm.write(nameOf(0xabc), 0, blocks(1, 1), CREATE);
    expect(await store.disk.list(`${DIRECTORY}/obj/bc`)).toEqual([formatOid(nameOf(0xabc))]);
  });
});
