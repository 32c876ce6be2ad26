import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GiB, KiB, MiB, PiB, TiB } from '../../src/base/units.ts';
import {
  checkObjectCount,
  checkVdiSize,
  isId,
  parseExportName,
  parseNameAndSize,
  parseObjectSize,
  parseTag,
  parseVdiName,
  parseVdiSize,
} from '../../src/vdi/names.ts';

const badInput = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_BAD_INPUT', message: expect.stringMatching(message) });

describe('names', () => {
  test.for([
    'demo',
    'a',
    'x'.repeat(255),
    'é'.repeat(127),
    'vm:1',
    '-',
    '..',
    '羊',
    '\u{1f411}.img',
  ])('a VDI may be called %s', (name) => {
    expect(parseVdiName(name)).toBe(name);
  });

  test.for<[string, RegExp]>([
    ['', /at least one character/],
    ['x'.repeat(256), /256 bytes.*at most 255/],
    ['é'.repeat(128), /256 bytes.*at most 255/],
    ['demo@monday', /"demo@monday" contains '@'/],
    ['demo+writeback', /contains '\+'/],
    ['a/b', /contains '\/'/],
    ['two words', /contains a space/],
    ['tab\there', /contains the character U\+0009/],
    ['nul\0', /U\+0000/],
    ['c1\u0085', /U\+0085/],
    ['nbsp\u00a0', /U\+00A0/],
    ['line\u2028', /U\+2028/],
    ['half\ud83d', /not Unicode/],
  ])('a VDI cannot be called %j', ([name, message]) => {
    expect(() => parseVdiName(name)).toThrow(badInput(message));
  });

  test('every refusal is one line that can be shown on a terminal', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (name) => {
        try {
          parseVdiName(name);
        } catch (error) {
          expect((error as Error).message).toMatch(/^\P{Cc}{1,400}$/u);
        }
      }),
    );
  });
});

describe('tags', () => {
  test.for(['monday', 'v42', '4-2', '4.2', 'x'.repeat(255)])('a tag may be %s', (tag) => {
    expect(parseTag(tag)).toBe(tag);
    expect(isId(tag)).toBe(false);
  });

  test.for<[string, RegExp]>([
    ['', /needs a tag of at least one character/],
    ['42', /"42" is all digits.*ID of a snapshot.*as in v42/],
    ['007', /all digits/],
    ['9'.repeat(300), /all digits.*as in v9{20}$/],
    ['a b', /the tag "a b" contains a space.*choose a tag/],
    ['a@b', /the tag "a@b" contains '@'/],
    ['x'.repeat(256), /the tag .* has 256 bytes; a tag has at most 255/],
  ])('a tag cannot be %j', ([tag, message]) => {
    expect(() => parseTag(tag)).toThrow(badInput(message));
  });
});

describe('names of exports', () => {
  test.for<[string, { name: string; snapshot?: string }]>([
    ['demo', { name: 'demo' }],
    ['demo@monday', { name: 'demo', snapshot: 'monday' }],
    ['demo@42', { name: 'demo', snapshot: '42' }],
  ])('%s', ([text, parts]) => {
    expect(parseExportName(text)).toEqual(parts);
  });

  test.for<[string, string]>([
    ['42', 'demo@042'],
    ['0', 'demo@00'],
    ['42 with 4000 zeroes', `demo@${'0'.repeat(4000)}42`],
    ['2^100', `demo@${2n ** 100n}`],
  ])('the ID %s is written in no second way', ([, text]) => {
    expect(() => parseExportName(text)).toThrow(badInput(/the ID ".*" is none; give it as/));
  });

  test.for(['', '@', 'demo@', '@monday', 'demo@a@b', 'demo+writeback', 'demo@a+writeback'])(
    '%j names nothing',
    (text) => {
      expect(() => parseExportName(text)).toThrow(badInput(/./));
    },
  );
});

describe('sizes', () => {
  test('in bytes are whole blocks, from one to a PiB', () => {
    for (const size of [4096, 8192, PiB]) checkVdiSize(size);
    for (const size of [0, -4096, 1, 4097, PiB + 4096, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => checkVdiSize(size)).toThrow(badInput(/give whole blocks of 4096 bytes/));
    }
  });

  test.for<[string, number]>([
    ['1', 4 * KiB],
    ['4096', 4 * KiB],
    ['4097', 8 * KiB],
    ['1k', 4 * KiB],
    ['5K', 8 * KiB],
    ['5KiB', 8 * KiB],
    ['8G', 8 * GiB],
    ['1.5G', 1536 * MiB],
    ['0.0001k', 4 * KiB],
    ['8g', 8 * GiB],
    ['8GiB', 8 * GiB],
    ['100M', 100 * MiB],
    ['4T', 4 * TiB],
    ['1P', PiB],
    ['1125899906842624', PiB],
    ['007M', 7 * MiB],
  ])('%s is %i bytes', ([text, size]) => {
    expect(parseVdiSize(text)).toBe(size);
  });

  test.for<[string, RegExp]>([
    ['', /"" is not a size.*as in 8G/],
    ['0', /empty/],
    ['0G', /empty/],
    ['-1', /"-1" is not a size/],
    ['1.5', /whole number/],
    ['1.G', /not a size/],
    ['.5G', /not a size/],
    ['1,5G', /not a size/],
    ['8GB', /not a size/],
    ['8 G', /not a size/],
    ['G', /not a size/],
    ['0x10', /not a size/],
    ['1e9', /not a size/],
    ['NaN', /not a size/],
    ['8Q', /not a size/],
    ['２G', /not a size/],
    ['1125899906842625', /too large.*1PiB/],
    ['2P', /too large/],
    ['99999999999999999999P', /too large/],
    ['9'.repeat(400), /not a size/],
  ])('%j is refused', ([text, message]) => {
    expect(() => parseVdiSize(text)).toThrow(badInput(message));
  });

  test.for(['1M', '2M', '4MiB', '8m', '16M', '32M', '64M', '4194304'])(
    '%s can be the size of objects',
    (text) => {
      expect(Math.log2(parseObjectSize(text)) % 1).toBe(0);
    },
  );

  test.for(['512k', '3M', '1.5M', '128M', '0', '4194305'])(
    '%s cannot be the size of objects',
    (text) => {
      expect(() => parseObjectSize(text)).toThrow(badInput(/cannot be; give 1M, 2M, 4M/));
    },
  );

  test('a VDI has at most 2^28 objects, and the refusal names the object size that would do', () => {
    checkObjectCount(PiB, 4 * MiB);
    checkObjectCount(256 * TiB, MiB);
    expect(() => checkObjectCount(PiB, MiB)).toThrow(badInput(/object size of 4M or more/));
    expect(() => checkObjectCount(256 * TiB + 4 * KiB, MiB)).toThrow(badInput(/2M or more/));
  });
});

describe('NAME:SIZE', () => {
  test('the last colon parts them', () => {
    expect(parseNameAndSize('demo:8G')).toEqual({ name: 'demo', sizeBytes: 8 * GiB });
    expect(parseNameAndSize('vm:1:4k')).toEqual({ name: 'vm:1', sizeBytes: 4 * KiB });
  });

  test.for<[string, RegExp]>([
    ['demo', /"demo" has no size; give NAME:SIZE, as in demo:8G/],
    ['demo:', /"" is not a size/],
    [':8G', /at least one character/],
    ['de mo:8G', /contains a space/],
  ])('%j is refused', ([text, message]) => {
    expect(() => parseNameAndSize(text)).toThrow(badInput(message));
  });
});
