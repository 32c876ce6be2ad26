import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { formatOid } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { dataAtOf, HEADER_BYTES } from '../../src/farm/object-format.ts';
import {
  blocks,
  CREATE,
  codeOf,
  contents,
  DIRECTORY,
  everything,
  failureOf,
  nameOf,
  OBJECT_BYTES,
  openStore,
  overwrite,
  PLAIN,
  pathOf,
  read,
  SimStore,
  values,
} from './store.ts';

const A = nameOf(0);
const VID = A.vid;
const DATA_AT = dataAtOf(OBJECT_BYTES);

/** A store that was stopped cleanly, with one object of ones; nothing of it is in memory. */
async function atRest(): Promise<SimStore> {
  const store = await SimStore.open();
  await store.farm.write(A, 0, blocks(8, 1), CREATE);
  await store.restart();
  return store;
}

describe('a bit that turned over in an object', () => {
  test.for([
    ['the first byte of a block', DATA_AT + 3 * BLOCK_BYTES, 0],
    ['the middle of a block', DATA_AT + 3 * BLOCK_BYTES + 2000, 3],
    ['the last byte of a block', DATA_AT + 4 * BLOCK_BYTES - 1, 7],
  ] as const)('%s: found by name, never returned, and its neighbours are', async ([, at, bit]) => {
    const store = await atRest();
    store.disk.flipBit(pathOf(A), at, bit);
    for (const [from, length] of [
      [3 * BLOCK_BYTES, BLOCK_BYTES],
      [0, 8 * BLOCK_BYTES],
      [4 * BLOCK_BYTES - 1, 2],
      [3 * BLOCK_BYTES + 7, 1],
    ] as const) {
      const failure = await failureOf(() => read(store.farm, A, from, length));
      expect(failure).toMatchObject({
        code: 'ERR_CORRUPT',
        facts: { oid: formatOid(A), block: 3 },
        message: expect.stringContaining(formatOid(A)),
      });
    }
    expect(await read(store.farm, A, 0, 3 * BLOCK_BYTES)).toEqual(blocks(3, 1));
    expect(await read(store.farm, A, 4 * BLOCK_BYTES, 100)).toEqual(blocks(1, 1).subarray(0, 100));
  });

  test('a part of the damaged block cannot be written, the whole of it can', async () => {
    const store = await atRest();
    store.disk.flipBit(pathOf(A), DATA_AT + 5, 0);
    expect(await codeOf(() => store.farm.write(A, 100, blocks(1, 2), PLAIN))).toBe('ERR_CORRUPT');
    await store.farm.write(A, 0, blocks(1, 2), PLAIN);
    expect(await values(store.farm, A)).toBe('2 1 1 1 1 1 1 1');
  });

  test('in the page cache it is found before a flush makes it stable', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    store.disk.flipBit(pathOf(A), DATA_AT + 5, 0);
    expect(await codeOf(() => store.farm.flush(VID))).toBe('ERR_LOST');
  });

  test.for([
    ['the magic', 0],
    ['the version', 5],
    ['the oid', 15],
    ['the object size', 20],
    ['the life', 33],
    ['the reserved bytes', 1000],
    ['its own checksum', HEADER_BYTES - 1],
  ] as const)('in %s of the header: the object is named and not served', async ([, at]) => {
    const store = await atRest();
    store.disk.flipBit(pathOf(A), at, 0);
    for (const run of [
      () => read(store.farm, A, 0, 1),
      () => store.farm.write(A, 0, blocks(1, 2), PLAIN),
      () => store.farm.extents(A, 0, 1),
    ]) {
      expect(await failureOf(run)).toMatchObject({
        code: 'ERR_CORRUPT',
        message: expect.stringContaining(formatOid(A)),
      });
    }
  });

  test('in the table of checksums: the object is named and not served', async () => {
    const store = await atRest();
    store.disk.flipBit(pathOf(A), HEADER_BYTES + 9, 2);
    expect(await failureOf(() => read(store.farm, A, 0, 1))).toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringMatching(`${formatOid(A)}.*table`),
    });
  });

  test('without checksums only what was written without them is not held to one', async () => {
    const store = await SimStore.open({ checksums: false });
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.restart();
    store.disk.flipBit(pathOf(A), DATA_AT, 1);
    expect((await read(store.farm, A, 0, 1))[0]).toBe(3);
    await store.farm[Symbol.asyncDispose]();
    const strict = await openStore(store.disk, DIRECTORY, { checksums: true });
    expect((await read(strict, A, 0, 1))[0]).toBe(3);
    await strict.write(A, 0, blocks(1, 5), PLAIN);
    await strict[Symbol.asyncDispose]();
    store.disk.flipBit(pathOf(A), DATA_AT, 1);
    const lax = await openStore(store.disk, DIRECTORY, { checksums: false });
    expect(await codeOf(() => read(lax, A, 0, 1))).toBe('ERR_CORRUPT');
  });

  test('a damaged object can be removed and made again', async () => {
    const store = await atRest();
    store.disk.flipBit(pathOf(A), 0, 0);
    await store.farm.remove(A, PLAIN);
    expect(await codeOf(() => read(store.farm, A, 0, 1))).toBe('ERR_MISSING');
    await store.farm.write(A, 0, blocks(1, 2), CREATE);
    expect(await values(store.farm, A, 1)).toBe('2');
  });
});

describe('an object file', () => {
  test('of a newer format is refused with both versions, and not touched', async () => {
    const store = await atRest();
    const bytes = await contents(store.disk, pathOf(A));
    new DataView(bytes.buffer).setUint16(4, 3);
    new DataView(bytes.buffer).setUint32(
      HEADER_BYTES - 4,
      crc32(bytes.subarray(0, HEADER_BYTES - 4)),
    );
    await overwrite(store.disk, pathOf(A), bytes);
    for (const run of [
      () => read(store.farm, A, 0, 1),
      () => store.farm.write(A, 0, blocks(1, 2), PLAIN),
    ]) {
      expect(await failureOf(run)).toMatchObject({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/format 3\b.*\b2\b/),
        facts: { found: 3, known: 2 },
      });
    }
    expect(await contents(store.disk, pathOf(A))).toEqual(bytes);
  });

  test('that lies under the name of another is refused by name', async () => {
    const store = await atRest();
    const other = nameOf(256);
    await overwrite(store.disk, pathOf(other), await contents(store.disk, pathOf(A)));
    expect(await failureOf(() => read(store.farm, other, 0, 1))).toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringMatching(`${formatOid(other)}.*${formatOid(A)}`),
    });
  });

  test.for([0, 100, HEADER_BYTES, DATA_AT - 1])(
    'of %i bytes is refused by name',
    async (length) => {
      const store = await atRest();
      const bytes = await contents(store.disk, pathOf(A));
      await overwrite(store.disk, pathOf(A), bytes.subarray(0, length));
      expect(await failureOf(() => read(store.farm, A, 0, 1))).toMatchObject({
        code: 'ERR_CORRUPT',
        message: expect.stringContaining(formatOid(A)),
      });
    },
  );

  test('whose data is cut off reads as damaged, not as zeroes', async () => {
    const store = await atRest();
    const bytes = await contents(store.disk, pathOf(A));
    await overwrite(store.disk, pathOf(A), bytes.subarray(0, DATA_AT + 2 * BLOCK_BYTES + 10));
    expect(await read(store.farm, A, 0, 2 * BLOCK_BYTES)).toEqual(blocks(2, 1));
    expect(await codeOf(() => read(store.farm, A, 2 * BLOCK_BYTES, 1))).toBe('ERR_CORRUPT');
    expect(await codeOf(() => read(store.farm, A, 7 * BLOCK_BYTES, BLOCK_BYTES))).toBe(
      'ERR_CORRUPT',
    );
  });
});

test('a refused store is left exactly as it was', async () => {
  const store = await atRest();
  await store.farm[Symbol.asyncDispose]();
  const [segment] = await store.disk.list(`${DIRECTORY}/journal`);
  store.disk.flipBit(`${DIRECTORY}/journal/${segment}`, 4097, 0);
  const before = await everything(store.disk, DIRECTORY);
  expect(await codeOf(() => openStore(store.disk, DIRECTORY))).toBe('ERR_CORRUPT');
  expect(await everything(store.disk, DIRECTORY)).toEqual(before);
});
