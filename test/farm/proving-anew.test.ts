import { describe, expect, test } from 'vitest';
import { formatOid, type ObjectName } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { dataAtOf } from '../../src/farm/object-format.ts';
import {
  blocks,
  CREATE,
  failureOf,
  nameOf,
  OBJECT_BYTES,
  PLAIN,
  pathOf,
  SimStore,
} from './store.ts';

const P = nameOf(0, 5);
/** Of the same family, so in the same slot. */
const W: ObjectName = { ...P, vid: 6 };
const DATA_AT = dataAtOf(OBJECT_BYTES);
const INHERITING = { ...CREATE, inherits: P.vid };

async function anew(store: SimStore, name: ObjectName, at = 0, length = OBJECT_BYTES) {
  const into = new Uint8Array(length).fill(0xee);
  await store.farm.read(name, at, into, { proveAnew: true });
  return into;
}

describe('a read that proves anew', () => {
  test('finds what turned over after the block was written or proven, in any block', async () => {
    const store = await SimStore.open();
    await store.farm.write(P, 0, blocks(8, 1), CREATE);
    await store.farm.flush(P.vid);
    expect(await anew(store, P)).toEqual(blocks(8, 1));
    store.disk.flipBit(pathOf(P), DATA_AT + 3 * BLOCK_BYTES + 7, 0);
    const damaged = { code: 'ERR_CORRUPT', facts: { oid: formatOid(P), block: 3 } };
    expect(await failureOf(() => anew(store, P))).toMatchObject(damaged);
    expect(await failureOf(() => anew(store, P, 3 * BLOCK_BYTES + 100, 1))).toMatchObject(damaged);
    expect(await anew(store, P, 4 * BLOCK_BYTES, BLOCK_BYTES)).toEqual(blocks(1, 1));
    // And from then on every read does.
    const plain = () => store.farm.read(P, 3 * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES));
    expect(await failureOf(plain)).toMatchObject(damaged);
  });

  test('finds bytes where a hole should be', async () => {
    const store = await SimStore.open();
    await store.farm.write(P, 0, blocks(1, 1), CREATE);
    await store.farm.write(P, 7 * BLOCK_BYTES, blocks(1, 1), PLAIN);
    await store.farm.flush(P.vid);
    store.disk.flipBit(pathOf(P), DATA_AT + 2 * BLOCK_BYTES, 0);
    expect(await failureOf(() => anew(store, P, 2 * BLOCK_BYTES, BLOCK_BYTES))).toMatchObject({
      facts: { block: 2 },
    });
  });

  test('of an inheriting object proves what it inherits, and what stands for that in its own file', async () => {
    const store = await SimStore.open();
    await store.farm.write(P, 0, blocks(8, 1), CREATE);
    await store.farm.write(W, 2 * BLOCK_BYTES, blocks(1, 2), { ...INHERITING });
    await store.farm.flush(W.vid);
    const expected = blocks(8, 1);
    expected.fill(2, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES);
    expect(await anew(store, W)).toEqual(expected);

    store.disk.flipBit(pathOf(P), DATA_AT + 5 * BLOCK_BYTES, 0);
    expect(await failureOf(() => anew(store, W))).toMatchObject({ facts: { oid: formatOid(P) } });
    expect(await anew(store, W, 0, 5 * BLOCK_BYTES)).toEqual(expected.subarray(0, 5 * BLOCK_BYTES));
    store.disk.flipBit(pathOf(P), DATA_AT + 5 * BLOCK_BYTES, 0);

    store.disk.flipBit(pathOf(W), DATA_AT + 4 * BLOCK_BYTES, 0);
    expect(await failureOf(() => anew(store, W))).toMatchObject({
      facts: { oid: formatOid(W), block: 4 },
    });
  });

  test('sees what was written and is stable nowhere yet', async () => {
    const store = await SimStore.open();
    await store.farm.write(P, 0, blocks(8, 1), CREATE);
    await store.farm.write(P, 100, blocks(1, 2), PLAIN);
    const expected = blocks(8, 1);
    expected.fill(2, 100, 100 + BLOCK_BYTES);
    expect(await anew(store, P)).toEqual(expected);
  });
});
