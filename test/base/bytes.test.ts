import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Reader, Writer } from '../../src/base/bytes.ts';
import { SheepError } from '../../src/base/errors.ts';

type Field =
  | { readonly kind: 'u8' | 'u16' | 'u32'; readonly value: number }
  | { readonly kind: 'u64'; readonly value: bigint }
  | { readonly kind: 'size'; readonly value: number }
  | { readonly kind: 'bytes'; readonly value: Uint8Array }
  | { readonly kind: 'text'; readonly value: string };

const fields: fc.Arbitrary<Field[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('u8' as const), value: fc.nat(0xff) }),
    fc.record({ kind: fc.constant('u16' as const), value: fc.nat(0xffff) }),
    fc.record({ kind: fc.constant('u32' as const), value: fc.nat(0xffff_ffff) }),
    fc.record({
      kind: fc.constant('u64' as const),
      value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    }),
    fc.record({ kind: fc.constant('size' as const), value: fc.maxSafeNat() }),
    fc.record({ kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 40 }) }),
    fc.record({
      kind: fc.constant('text' as const),
      value: fc.string({ unit: 'grapheme', maxLength: 20 }),
    }),
  ),
);

function write(writer: Writer, field: Field): void {
  if (field.kind === 'size') writer.u64(field.value);
  else if (field.kind === 'bytes') writer.bytes(field.value);
  else if (field.kind === 'text') writer.text(field.value);
  else if (field.kind === 'u64') writer.u64(field.value);
  else writer[field.kind](field.value);
}

function read(reader: Reader, { kind, value }: Field): unknown {
  if (kind === 'bytes') return reader.bytes(value.length, kind).slice();
  if (kind === 'text') return reader.text(new TextEncoder().encode(value).length, kind);
  return reader[kind](kind);
}

describe('a Writer and a Reader', () => {
  test('agree on every field, in any order and number', () => {
    fc.assert(
      fc.property(fields, fc.nat(80), (written, room) => {
        const writer = new Writer(room);
        for (const field of written) write(writer, field);
        const reader = new Reader(writer.done());
        for (const field of written) expect(read(reader, field)).toEqual(field.value);
        expect(reader.left).toBe(0);
        reader.end('the fields');
      }),
    );
  });

  test('write and read big-endian, and zeroes as zeroes', () => {
    const bytes = new Writer(1).u16(0x0102).u32(0x0304_0506).zeroes(2).u64(7).u8(8).done();
    expect(Buffer.from(bytes).toString('hex')).toBe('0102030405060000000000000000000708');
  });

  test('refuse what is cut off, by the name of the field', () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3));
    reader.u16('first');
    expect(() => reader.u32('the second')).toThrow(
      expect.objectContaining({
        code: 'ERR_BAD_FRAME',
        message: expect.stringContaining('the second'),
      }),
    );
    expect(() => reader.bytes(2, 'the third')).toThrow(/the third/);
    expect(reader.u8('last')).toBe(3);
  });

  test('refuse a size that no number holds, bytes left over, and text that is not UTF-8', () => {
    const large = new Writer().u64(2n ** 53n).done();
    expect(() => new Reader(large).size('a size')).toThrow(/a size/);
    expect(() => new Reader(large).end('nothing')).toThrow(/8 bytes after nothing/);
    const broken = Uint8Array.of(0xff, 0xfe);
    expect(() => new Reader(broken).text(2, 'a name')).toThrow(SheepError);
  });

  test('read from the middle of a larger buffer', () => {
    const large = Uint8Array.of(9, 9, 0, 5, 9);
    expect(new Reader(large.subarray(2, 4)).u16('field')).toBe(5);
  });
});
