import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault, SheepError } from '../../src/base/errors.ts';
import { INDEXES_MAX, KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import {
  bootMark,
  decodeRecordHead,
  decodeSegmentHeader,
  ENTRY,
  encodeRecordHead,
  encodeSegmentHeader,
  hasBlock,
  type JournalRecord,
  packBlocks,
  recordBytesOf,
  recordExtent,
  SEGMENT_HEADER_BYTES,
} from '../../src/farm/journal-format.ts';
import { unnoticedFlips } from '../golden/bits.ts';
import { golden } from '../golden/golden.ts';

const u32 = fc.nat(2 ** 32 - 1);
const u53 = fc.maxSafeNat();
const uuid = fc.uuid();

const segmentHeader = {
  storeId: '0b9d3c1e-3f62-4a63-9c5e-0e2f3a7f6c11',
  segment: 0x0102_0304,
  record: 0x0a0b_0c0d,
  bootId: '5e8f2a77-94c0-4d5b-8a39-6f1d2b3c4e5f',
};

const entries = fc.record({
  type: fc.constantFrom(...Object.values(ENTRY)),
  name: fc.record({
    kind: fc.constantFrom(...Object.values(KIND)),
    vid: u32,
    index: fc.nat(INDEXES_MAX - 1),
    slot: u32,
  }),
  stamp: fc.record({ epoch: u32, attachEpoch: u32 }),
  objectBytes: u32,
  detail: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  sum: u32,
});

/** Entries in the order of their appends. */
const records: fc.Arbitrary<JournalRecord> = fc
  .record({
    record: u53,
    first: fc.nat(2 ** 40),
    entries: fc.array(fc.tuple(entries, fc.nat(3)), { minLength: 1, maxLength: 300 }),
  })
  .map(({ record, first, entries: drawn }) => {
    let sequence = first;
    const sequenced = drawn.map(([entry, step], place) => {
      if (place > 0) sequence += step;
      return { ...entry, sequence };
    });
    return { record, entries: sequenced };
  });

const name = { kind: KIND.data, vid: 5, index: 0x123, slot: 77 } as const;
const stamp = { epoch: 2, attachEpoch: 3 };
const known = { name, stamp, objectBytes: 4 << 20 };
/** One entry of each type. */
const record: JournalRecord = {
  record: 0x1112_1314,
  entries: [
    { ...known, type: ENTRY.reset, detail: 1n, sum: 0, sequence: 0x2122_2324 },
    { ...known, type: ENTRY.list, detail: bootMark('a boot'), sum: 0, sequence: 0x2122_2324 },
    { ...known, type: ENTRY.create, detail: 0x3132_3334_3536_3738n, sum: 0, sequence: 0x2122_2325 },
    { ...known, type: ENTRY.data, detail: 1023n, sum: 0x4142_4344, sequence: 0x2122_2326 },
    { ...known, type: ENTRY.hole, detail: 7n, sum: 0, sequence: 0x2122_2326 },
    { ...known, type: ENTRY.homed, detail: 0x2122_2326n, sum: 0, sequence: 0x2122_2327 },
    { ...known, type: ENTRY.retire, detail: 0n, sum: 0, sequence: 0x2122_2328 },
    { ...known, type: ENTRY.remove, detail: 0n, sum: 0, sequence: 0x2122_2329 },
    { ...known, type: ENTRY.clean, detail: 0n, sum: 0, sequence: 0x2122_232a },
    { ...known, type: ENTRY.create, detail: 0x5152_5354_5556_5758n, sum: 0, sequence: 0x2122_232b },
    { ...known, type: ENTRY.inherit, detail: 15n, sum: 0x6162_6364, sequence: 0x2122_232b },
    {
      ...{ ...known, type: ENTRY.zeroed, sum: 0, sequence: 0x2122_232c },
      detail: packBlocks({ first: 0x3ff, end: 0x3ff + 0x2001 }),
    },
  ],
};

/** The record as a scan takes it from a segment; undefined where it finds none. */
function scanned(bytes: Uint8Array, segment: number): JournalRecord | undefined {
  const extent = recordExtent(bytes.subarray(0, BLOCK_BYTES), segment, bytes.length);
  if (typeof extent === 'string') return undefined;
  return decodeRecordHead(bytes.subarray(0, extent.headBytes));
}

function decodedOrRefused(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SheepError);
  }
}

describe('the header of a segment', () => {
  test('is decoded to what was encoded', () => {
    const headers = fc.record({ storeId: uuid, segment: u53, record: u53, bootId: uuid });
    fc.assert(
      fc.property(headers, (made) => {
        const bytes = encodeSegmentHeader(made);
        expect(bytes).toHaveLength(SEGMENT_HEADER_BYTES);
        expect(decodeSegmentHeader(bytes)).toEqual(made);
      }),
    );
  });

  test('is refused with any one bit turned over', () => {
    const accepts = (flipped: Uint8Array) => {
      try {
        decodeSegmentHeader(flipped);
        return true;
      } catch (error) {
        return !isFault(error, 'ERR_CORRUPT');
      }
    };
    expect(unnoticedFlips(encodeSegmentHeader(segmentHeader), accepts)).toEqual([]);
  });

  test('of any bytes is decoded or refused by name', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) =>
        decodedOrRefused(() => decodeSegmentHeader(bytes)),
      ),
    );
    fc.assert(
      fc.property(fc.nat(120), fc.uint8Array({ maxLength: 40 }), (at, bytes) => {
        const changed = encodeSegmentHeader(segmentHeader);
        changed.set(bytes, at);
        const view = new DataView(changed.buffer);
        const sum = crc32(changed.subarray(0, SEGMENT_HEADER_BYTES - 4));
        view.setUint32(SEGMENT_HEADER_BYTES - 4, sum);
        decodedOrRefused(() => decodeSegmentHeader(changed));
      }),
    );
  });

  test('of the next version is refused with both', () => {
    const bytes = encodeSegmentHeader(segmentHeader);
    const view = new DataView(bytes.buffer);
    view.setUint32(4, 3);
    view.setUint32(SEGMENT_HEADER_BYTES - 4, crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)));
    expect(() => decodeSegmentHeader(bytes)).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/format 3\b.*\b2\b/),
        facts: { found: 3, known: 2 },
      }),
    );
  });

  test('in version 2 is these bytes and no others', () => {
    const bytes = encodeSegmentHeader(segmentHeader);
    const stored = golden('journal-segment-header-v2', bytes);
    expect(bytes).toEqual(stored);
    expect(decodeSegmentHeader(stored)).toEqual(segmentHeader);
  });

  test('in version 1 is refused with both', () => {
    const stored = golden('journal-segment-header-v1', new Uint8Array(0));
    expect(() => decodeSegmentHeader(stored)).toThrow(
      expect.objectContaining({ code: 'ERR_VERSION', facts: { found: 1, known: 2 } }),
    );
  });

  test('takes no id that is too long', () => {
    expect(() => encodeSegmentHeader({ ...segmentHeader, bootId: 'x'.repeat(37) })).toThrow(
      SheepError,
    );
  });
});

describe('a record', () => {
  test('is decoded to what was encoded, whatever the number of entries', () => {
    fc.assert(
      fc.property(records, fc.nat(2 ** 40), (made, segment) => {
        const head = encodeRecordHead(segment, made);
        const blocks = made.entries.filter(hasBlock).length;
        expect(head.length % BLOCK_BYTES).toBe(0);
        expect(recordBytesOf(made.entries.length, blocks)).toBe(head.length + blocks * BLOCK_BYTES);
        const room = head.length + blocks * BLOCK_BYTES;
        const extent = recordExtent(head.subarray(0, BLOCK_BYTES), segment, room);
        expect(extent).toEqual({ headBytes: head.length, recordBytes: room, record: made.record });
        expect(decodeRecordHead(head)).toEqual(made);
      }),
      { numRuns: 50 },
    );
  });

  test('is none with any one bit turned over', () => {
    const head = encodeRecordHead(9, record);
    const whole = new Uint8Array(head.length + 2 * BLOCK_BYTES);
    whole.set(head);
    expect(scanned(whole, 9)).toEqual(record);
    const accepts = (flipped: Uint8Array) => scanned(flipped, 9) !== undefined;
    expect(unnoticedFlips(whole, accepts, head.length)).toEqual([]);
  });

  test('is none of another segment, nor one longer than what is left of its own', () => {
    const head = encodeRecordHead(9, record);
    const first = head.subarray(0, BLOCK_BYTES);
    expect(recordExtent(first, 8, 2 * BLOCK_BYTES)).toBe('a record of another segment');
    expect(recordExtent(first, 9, 2 * BLOCK_BYTES - 1)).toBe('a record longer than its segment');
    expect(recordExtent(new Uint8Array(BLOCK_BYTES), 9, BLOCK_BYTES)).toBe('no record');
  });

  test('of any bytes is decoded or refused by name', () => {
    fc.assert(
      fc.property(fc.nat(400), fc.uint8Array({ maxLength: 60 }), (at, bytes) => {
        const changed = new Uint8Array(encodeRecordHead(9, record));
        changed.set(bytes, at);
        decodedOrRefused(() => scanned(changed, 9));
        const view = new DataView(changed.buffer);
        view.setUint32(28, crc32(changed.subarray(32), crc32(changed.subarray(0, 28))));
        decodedOrRefused(() => decodeRecordHead(changed));
      }),
    );
  });

  /** A record carries no version: behind a header of version 1 none is looked for. */
  test('of version 1 has the same shape', () => {
    const stored = golden('journal-record-v1', new Uint8Array(0));
    expect(decodeRecordHead(stored)?.entries).toEqual(record.entries.slice(0, 9));
  });

  test('in version 2 is these bytes and no others', () => {
    const head = encodeRecordHead(9, record);
    const stored = golden('journal-record-v2', head);
    expect(head).toEqual(stored);
    expect(decodeRecordHead(stored)).toEqual(record);
  });
});

test('boots are told apart by 64 bits of their ids', () => {
  expect(bootMark(segmentHeader.bootId)).toBe(bootMark(segmentHeader.bootId));
  expect(bootMark('a')).not.toBe(bootMark('b'));
});
