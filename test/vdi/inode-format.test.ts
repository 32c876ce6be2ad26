import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault, SheepError } from '../../src/base/errors.ts';
import { VID_MAX } from '../../src/base/ids.ts';
import { BLOCK_BYTES, MiB, PiB } from '../../src/base/units.ts';
import {
  decodeInodeHeader,
  encodeInodeHeader,
  entryBlockAt,
  LEAF_BYTES,
  LEAF_ENTRIES,
  LEAVES_MAX,
  leafName,
  ROOT_BYTES,
  rootName,
} from '../../src/vdi/inode-format.ts';
import { unnoticedFlips } from '../golden/bits.ts';
import { golden } from '../golden/golden.ts';

const header = {
  vid: 0x0102_0304,
  family: 0x0a0b_0c0d,
  sizeBytes: (3 * PiB) / 4,
  objectBytes: 4 * MiB,
};

const headers = fc.record({
  vid: fc.integer({ min: 1, max: VID_MAX }),
  family: fc.integer({ min: 1, max: VID_MAX }),
  sizeBytes: fc.maxSafeNat(),
  objectBytes: fc.nat(2 ** 32 - 1),
});

function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(BLOCK_BYTES - 4, crc32(bytes.subarray(0, BLOCK_BYTES - 4)));
  return bytes;
}

describe('the header of an inode', () => {
  test('is decoded to what was encoded', () => {
    fc.assert(
      fc.property(headers, (made) => {
        const bytes = encodeInodeHeader(made);
        expect(bytes).toHaveLength(BLOCK_BYTES);
        expect(decodeInodeHeader(bytes)).toEqual(made);
      }),
    );
  });

  test('is refused with any one bit turned over', () => {
    const accepts = (flipped: Uint8Array) => {
      try {
        decodeInodeHeader(flipped);
        return true;
      } catch (error) {
        return !isFault(error, 'ERR_CORRUPT');
      }
    };
    expect(unnoticedFlips(encodeInodeHeader(header), accepts)).toEqual([]);
  });

  test('of any bytes is decoded or refused by name', () => {
    const decodedOrRefused = (bytes: Uint8Array) => {
      try {
        decodeInodeHeader(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(SheepError);
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), decodedOrRefused));
    fc.assert(
      fc.property(fc.nat(60), fc.uint8Array({ maxLength: 20 }), (at, bytes) => {
        const changed = encodeInodeHeader(header);
        changed.set(bytes, at);
        decodedOrRefused(changed);
        decodedOrRefused(sealed(changed));
      }),
    );
  });

  test('of the next version is refused with both', () => {
    const bytes = encodeInodeHeader(header);
    new DataView(bytes.buffer).setUint32(4, 3);
    expect(() => decodeInodeHeader(sealed(bytes))).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/format 3\b.*\b2\b/),
        facts: { found: 3, known: 2 },
      }),
    );
  });

  test('of version 1 is refused: its root was as large as its disk needed', () => {
    const first = golden('inode-header-v1', new Uint8Array(0));
    expect(() => decodeInodeHeader(first)).toThrow(
      expect.objectContaining({ code: 'ERR_VERSION', facts: { found: 1, known: 2 } }),
    );
  });

  test('in version 2 is these bytes and no others', () => {
    const bytes = encodeInodeHeader(header);
    const stored = golden('inode-header-v2', bytes);
    expect(bytes).toEqual(stored);
    expect(decodeInodeHeader(stored)).toEqual(header);
  });
});

describe('the tree of an inode', () => {
  test('has a root of one size, for as many leaves as the largest disk has', () => {
    expect(LEAVES_MAX * LEAF_ENTRIES * 4 * MiB).toBe(PiB);
    expect(ROOT_BYTES).toBe(17 * BLOCK_BYTES);
  });

  test('names its nodes apart, in one family of slots', () => {
    const names = [rootName(7, 7), leafName(7, 7, 0), leafName(7, 7, 2 ** 14 - 1)];
    expect(names.map(({ kind, vid, index }) => [kind, vid, index])).toEqual([
      [1, 7, 0],
      [1, 7, 1],
      [1, 7, 2 ** 14],
    ]);
    // A clone's nodes lie where its parent's do.
    expect(leafName(9, 7, 3).slot).toBe(leafName(7, 7, 3).slot);
  });

  test('finds the block of an entry', () => {
    expect(LEAF_BYTES).toBe(16 * BLOCK_BYTES);
    expect(entryBlockAt(0)).toBe(0);
    expect(entryBlockAt(1023)).toBe(0);
    expect(entryBlockAt(1024)).toBe(BLOCK_BYTES);
    expect(entryBlockAt(LEAF_ENTRIES - 1)).toBe(15 * BLOCK_BYTES);
  });
});
