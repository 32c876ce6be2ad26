import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import {
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  type KeyChange,
  type LogChange,
  readLog,
} from '../../src/cluster/coordinator-log.ts';

const clusterId = Uint8Array.from({ length: 16 }, (_, index) => index);
const bytes = (text: string) => new TextEncoder().encode(text);
const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');

/** A log in memory, with `reserve` zeroes behind its last record. */
function logOf(base: LogChange[], records: LogChange[][], reserve = 0): Uint8Array<ArrayBuffer> {
  const baseRecord = base.length === 0 ? new Uint8Array() : encodeRecord(base);
  const header = encodeHeader({
    clusterId,
    baseRevision: base.at(-1)?.revision ?? 0n,
    baseEnd: HEADER_BYTES + baseRecord.length,
  });
  const parts = [header, baseRecord, ...records.map(encodeRecord), new Uint8Array(reserve)];
  return Uint8Array.from(Buffer.concat(parts));
}

const put = (revision: bigint, key: string, value: string): LogChange => ({
  revision,
  keys: [{ key, value: bytes(value), leased: false }],
});

const keyChange: fc.Arbitrary<KeyChange> = fc.oneof(
  fc.record({
    key: fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }),
    value: fc.uint8Array({ maxLength: 100 }),
    leased: fc.boolean(),
  }),
  fc.record({ key: fc.string({ minLength: 1, maxLength: 40 }), leased: fc.constant(false) }),
);

describe('the bytes of the log', () => {
  test('version 1 is these bytes and no others', () => {
    const log = logOf(
      [put(3n, 'a', 'A')],
      [
        [
          {
            revision: 4n,
            keys: [
              { key: 'a', leased: false },
              { key: 'b', value: bytes('B'), leased: true },
            ],
          },
        ],
      ],
      4,
    );
    expect(hex(log)).toBe(
      [
        ['7368656570637264', '00000001', '000000000000006b', '0000000000000003'],
        ['000102030405060708090a0b0c0d0e0f', '00'.repeat(16), hex(log.subarray(60, 64))],
        // A record's header: magic, length of the body, revision, two checksums.
        ['5c6f7264', '00000013', '0000000000000003', hex(log.subarray(80, 88))],
        // Its body: revision, one key: put, length and text of the key, length and bytes of the value.
        ['0000000000000003', '0001', '01', '0001', '61', '00000001', '41'],
        ['5c6f7264', '00000017', '0000000000000004', hex(log.subarray(123, 131))],
        ['0000000000000004', '0002', '00', '0001', '61', '02', '0001', '62', '00000001', '42'],
        ['00000000'],
      ]
        .flat()
        .join(''),
    );
  });

  test('what was written is what is read', () => {
    const batches = fc.array(fc.array(fc.array(keyChange, { maxLength: 4 }), { minLength: 1 }));
    fc.assert(
      fc.property(batches, fc.nat(600), (keysOfBatches, reserve) => {
        let revision = 2n;
        const records = keysOfBatches.map((batch) =>
          batch.map((keys) => {
            revision += 1n;
            return { revision, keys };
          }),
        );
        const base = [put(1n, 'x', 'X'), put(2n, 'y', 'Y')];
        const log = logOf(base, records, reserve);
        const read = readLog(log, 'log');
        expect(read.base).toEqual(base);
        expect(read.changes).toEqual(records.flat());
        expect(read.tail).toBe('clean');
        expect(read.end).toBe(log.length - reserve);
      }),
    );
  });

  test('any bytes are read or refused by name', () => {
    const start = logOf([put(1n, 'x', 'X')], [[put(2n, 'x', 'Y')]]);
    const refused = (log: Uint8Array) => {
      try {
        readLog(log, 'the/log');
      } catch (error) {
        expect(error).toBeInstanceOf(SheepError);
        expect((error as SheepError).message).toContain('the/log');
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), refused));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (tail) =>
        refused(Uint8Array.from([...start, ...tail])),
      ),
    );
    // A body with a right checksum may still say anything.
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (body) => {
        const record = Buffer.alloc(24 + body.length);
        record.writeUInt32BE(0x5c6f7264, 0);
        record.writeUInt32BE(body.length, 4);
        record.writeBigUInt64BE(3n, 8);
        record.writeUInt32BE(crc32(body), 16);
        record.writeUInt32BE(crc32(record.subarray(0, 20)), 20);
        record.set(body, 24);
        refused(Uint8Array.from([...start, ...record]));
      }),
    );
  });

  test('a log of a newer version is refused with both versions named', () => {
    const log = logOf([], []);
    const view = new DataView(log.buffer);
    view.setUint32(8, 2);
    view.setUint32(60, crc32(log.subarray(0, 60)));
    expect(() => readLog(log, 'the/log')).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/the\/log has format version 2.*reads version 1/),
      }),
    );
  });

  test.for<[string, LogChange[], LogChange[][]]>([
    ['a revision comes twice', [put(1n, 'a', '')], [[put(1n, 'a', '')]]],
    ['a revision is left out', [put(1n, 'a', '')], [[put(3n, 'a', '')]]],
    ['the base runs backwards', [put(2n, 'a', ''), put(1n, 'b', '')], []],
  ])('a log in which %s is damaged', ([, base, records]) => {
    expect(() => readLog(logOf(base, records), 'log')).toThrow(
      expect.objectContaining({ code: 'ERR_CORRUPT' }),
    );
  });

  test('what is cut off inside the base is damage, for the base was whole when it got its name', () => {
    const log = logOf([put(1n, 'a', 'A'), put(2n, 'b', 'B')], []);
    for (let length = HEADER_BYTES; length < log.length; length++) {
      expect(() => readLog(log.subarray(0, length), 'log')).toThrow(
        expect.objectContaining({ code: 'ERR_CORRUPT' }),
      );
    }
  });
});
