import { describe, expect, test } from 'vitest';
import { parsePskFile } from '../../src/host/psk-file.ts';

const KEY = '00112233445566778899aabbccddeeff';
const keys = (text: string) => Object.fromEntries(parsePskFile(text, 'keys.psk'));

describe('a file of pre-shared keys', () => {
  test('holds a key for each user; a name may contain what is no control character', () => {
    const bytes = Buffer.from(KEY, 'hex');
    expect(keys(`alice:${KEY}\n\nböb smith:${KEY.toUpperCase()}\r\nhost:5:${KEY}${KEY}\n`)).toEqual(
      {
        alice: bytes,
        'böb smith': bytes,
        'host:5': Buffer.from(KEY + KEY, 'hex'),
      },
    );
  });

  test.for<[string, string, RegExp]>([
    ['no key at all', '\n\n', /keys.psk holds no key/],
    ['a line without a colon', `alice:${KEY}\n${KEY}`, /line 2 of keys.psk: a line is USER:KEY/],
    ['no user', `:${KEY}`, /line 1 .*no name/],
    ['a name that GnuTLS would read as another', `#616263:${KEY}`, /line 1 .*no name/],
    ['a control character in a name', `a\tb:${KEY}`, /line 1 .*no name/],
    ['a name that is too long', `${'x'.repeat(129)}:${KEY}`, /line 1 .*more than 128 bytes/],
    ['what is not hexadecimal', `alice:${KEY.replace('0', 'g')}`, /line 1 .*hexadecimal/],
    ['half a byte', `alice:${KEY}0`, /line 1 .*hexadecimal/],
    ['an empty key', 'alice:', /line 1 .*hexadecimal/],
    ['a key that could be guessed', `alice:${KEY.slice(2)}`, /line 1 .*openssl rand -hex 32/],
    ['a key that not every library takes', `alice:${KEY.repeat(5)}`, /line 1 .*16 to 64 bytes/],
    ['a user twice', `alice:${KEY}\nalice:${KEY}`, /line 2 .*has a key already/],
  ])('with %s is refused, and no key is told', ([, text, why]) => {
    expect(() => keys(text)).toThrow(why);
    expect(() => keys(text)).not.toThrow(/[0-9a-g]{20}/i);
  });
});
