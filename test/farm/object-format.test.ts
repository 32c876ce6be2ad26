import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault, SheepError } from '../../src/base/errors.ts';
import { INDEXES_MAX, KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import {
  dataAtOf,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  type ObjectHeader,
} from '../../src/farm/object-format.ts';
import { unnoticedFlips } from '../golden/bits.ts';
import { golden } from '../golden/golden.ts';
import { blocks, CREATE, contents, openStore, overwrite, pathOf, read, SimStore } from './store.ts';

const u32 = fc.nat(2 ** 32 - 1);

const headers: fc.Arbitrary<ObjectHeader> = fc
  .record({
    name: fc.record({
      kind: fc.constantFrom(KIND.data, KIND.inode, KIND.attribute),
      vid: u32,
      index: fc.nat(INDEXES_MAX - 1),
      slot: u32,
    }),
    objectBytes: fc.oneof(fc.integer({ min: 1, max: 64 * MiB }), fc.constantFrom(1, 64 * MiB)),
    stamp: fc.record({ epoch: u32, attachEpoch: u32 }),
    life: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    sums: fc.array(u32, { minLength: 32, maxLength: 32 }),
    inherits: fc.boolean(),
  })
  .map(({ sums, inherits, ...header }) => {
    const pages = Math.ceil(Math.ceil(header.objectBytes / BLOCK_BYTES) / 1024);
    const originSums = inherits ? sums.slice(16, 16 + pages) : [];
    return { ...header, pageSums: sums.slice(0, pages), originSums };
  });

const header: ObjectHeader = {
  name: { kind: KIND.data, vid: 0x0102_0304, index: 0x0a0b0c0, slot: 0x155 },
  objectBytes: 5 * MiB,
  stamp: { epoch: 7, attachEpoch: 9 },
  life: 0x1122_3344_5566_7788n,
  pageSums: [0xdead_beef, 0x0bad_cafe],
  originSums: [0x0102_0304, 0x0506_0708],
};

/** With a checksum that fits again. */
function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(HEADER_BYTES - 4, crc32(bytes.subarray(0, HEADER_BYTES - 4)));
  return bytes;
}

/** It is decoded, or refused by an error of ours. */
function decodedOrRefused(bytes: Uint8Array): void {
  try {
    decodeHeader(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(SheepError);
  }
}

describe('the header of an object file', () => {
  test('is decoded to what was encoded', () => {
    fc.assert(
      fc.property(headers, (made) => {
        const bytes = encodeHeader(made);
        expect(bytes).toHaveLength(HEADER_BYTES);
        expect(decodeHeader(bytes)).toEqual(made);
      }),
    );
  });

  test('is refused with any one bit turned over', () => {
    const accepts = (flipped: Uint8Array) => {
      try {
        decodeHeader(flipped);
        return true;
      } catch (error) {
        return !isFault(error, 'ERR_CORRUPT');
      }
    };
    expect(unnoticedFlips(encodeHeader(header), accepts)).toEqual([]);
  });

  test('of any bytes is decoded or refused by name', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), decodedOrRefused));
    const inside = fc.tuple(fc.nat(120), fc.uint8Array({ maxLength: 24 }));
    fc.assert(
      fc.property(inside, ([at, bytes]) => {
        const changed = encodeHeader(header);
        changed.set(bytes, at);
        decodedOrRefused(changed);
        decodedOrRefused(sealed(changed));
      }),
    );
  });

  test('of the next version is refused with both', () => {
    const bytes = encodeHeader(header);
    new DataView(bytes.buffer).setUint16(4, 3);
    expect(() => decodeHeader(sealed(bytes))).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/format 3\b.*\b2\b/),
        facts: { found: 3, known: 2 },
      }),
    );
  });

  test.for([
    ['a kind of checksum', 6, 9],
    ['a codec', 7, 1],
    ['a kind of object', 8, 0xf0],
  ] as const)('with %s that is not known is refused', ([, at, value]) => {
    const bytes = encodeHeader(header);
    bytes[at] = value;
    expect(() => decodeHeader(sealed(bytes))).toThrow(SheepError);
  });

  test.for([0, 64 * MiB + 1])('with an object size of %i is refused', (objectBytes) => {
    const bytes = encodeHeader(header);
    new DataView(bytes.buffer).setUint32(20, objectBytes);
    expect(() => decodeHeader(sealed(bytes))).toThrow(
      expect.objectContaining({ code: 'ERR_CORRUPT' }),
    );
  });

  test('and the table take whole blocks', () => {
    expect(dataAtOf(1)).toBe(2 * BLOCK_BYTES);
    expect(dataAtOf(4 * MiB)).toBe(2 * BLOCK_BYTES);
    expect(dataAtOf(4 * MiB + 1)).toBe(3 * BLOCK_BYTES);
    expect(dataAtOf(64 * MiB)).toBe(17 * BLOCK_BYTES);
  });
});

describe('version 1 of the object file', () => {
  test.for(['object-header-v1', 'object-file-v1'])('is refused by name: %s', (name) => {
    const stored = golden(name, new Uint8Array(0));
    expect(() => decodeHeader(stored.subarray(0, HEADER_BYTES))).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/format 1\b.*\b2\b/),
        facts: { found: 1, known: 2 },
      }),
    );
  });

  test('is refused also where the object is in doubt, and not touched', async () => {
    const store = await SimStore.open();
    const name = { kind: KIND.data, vid: 5, index: 0x123, slot: 77 };
    await store.farm.write(name, 0, blocks(1, 1), CREATE);
    const stored = golden('object-file-v1', new Uint8Array(0));
    await store.disk.remove(pathOf(name));
    await overwrite(store.disk, pathOf(name), stored);
    await store.kill();
    const refused = expect.objectContaining({ code: 'ERR_VERSION' });
    await expect(read(store.farm, name, 0, 1)).rejects.toEqual(refused);
    expect(await contents(store.disk, pathOf(name))).toEqual(stored);
  });
});

describe('version 2 of the object file', () => {
  test('has this header and no other', () => {
    const bytes = encodeHeader(header);
    const stored = golden('object-header-v2', bytes);
    expect(bytes).toEqual(stored);
    expect(decodeHeader(stored)).toEqual(header);
  });

  /** An object of three blocks: 0 a hole, 1 with a few bytes, 2 reserved. */
  test('is these bytes, checksums included', async () => {
    const store = await SimStore.open();
    const block = blocks(1, 0);
    for (let at = 0; at < 16; at += 1) block[at] = at + 1;
    const name = { kind: KIND.data, vid: 5, index: 0x123, slot: 77 };
    const stamp = Object.freeze({ epoch: 2, attachEpoch: 3 });
    const call = { stamp, durable: false, createBytes: 3 * BLOCK_BYTES };
    await store.farm.write(name, BLOCK_BYTES, block, call);
    const keep = { stamp, durable: false, keepAllocated: true };
    await store.farm.zero(name, 2 * BLOCK_BYTES, BLOCK_BYTES, keep);
    await store.farm[Symbol.asyncDispose]();
    const made = await contents(store.disk, pathOf(name));
    // Its life is random: taken out, and the header sealed again.
    const { life, ...rest } = decodeHeader(made.subarray(0, HEADER_BYTES));
    expect(life).not.toBe(0n);
    made.set(encodeHeader({ ...rest, life: 1n }));
    const stored = golden('object-file-v2', made);
    expect(Buffer.compare(made, stored)).toBe(0);

    await overwrite(store.disk, pathOf(name), stored);
    const farm = await openStore(store.disk, '/store');
    expect(await read(farm, name, BLOCK_BYTES, BLOCK_BYTES)).toEqual(block);
    expect(await farm.extents(name, 0, 3 * BLOCK_BYTES)).toEqual([
      { length: BLOCK_BYTES, content: 'hole' },
      { length: BLOCK_BYTES, content: 'data' },
      { length: BLOCK_BYTES, content: 'zero' },
    ]);
  });

  /** Of four blocks: 0 its own, 1 inherited from vid 5, 2 a hole, 3 zeroed and reserved. */
  test('of an object that inherits is these bytes, origins behind the data', async () => {
    const store = await SimStore.open();
    const parent = { kind: KIND.data, vid: 5, index: 0x123, slot: 77 };
    const name = { ...parent, vid: 6 };
    const stamp = Object.freeze({ epoch: 2, attachEpoch: 3 });
    const call = { stamp, durable: false, createBytes: 4 * BLOCK_BYTES };
    await store.farm.write(parent, 0, blocks(2, 1), call);
    await store.farm.write(parent, 3 * BLOCK_BYTES, blocks(1, 1), { stamp, durable: false });
    const own = blocks(1, 0);
    own.set([1, 2, 3, 4]);
    await store.farm.write(name, 0, own, { ...call, inherits: 5 });
    const keep = { stamp, durable: false, keepAllocated: true };
    await store.farm.zero(name, 3 * BLOCK_BYTES, BLOCK_BYTES, keep);
    await store.farm[Symbol.asyncDispose]();
    const made = await contents(store.disk, pathOf(name));
    const { life, ...rest } = decodeHeader(made.subarray(0, HEADER_BYTES));
    expect(life).not.toBe(0n);
    made.set(encodeHeader({ ...rest, life: 1n }));
    const stored = golden('object-heir-v2', made);
    expect(Buffer.compare(made, stored)).toBe(0);

    await overwrite(store.disk, pathOf(name), stored);
    const farm = await openStore(store.disk, '/store');
    expect(await read(farm, name, 0, BLOCK_BYTES)).toEqual(own);
    expect(await read(farm, name, BLOCK_BYTES, BLOCK_BYTES)).toEqual(blocks(1, 1));
    expect([...(await farm.sources(name))]).toEqual([6, 5, 0, 6]);
  });
});
