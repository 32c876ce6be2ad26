import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress, isLocal, parseAddress } from '../../src/base/address.ts';
import { SheepError } from '../../src/base/errors.ts';

describe('an address', () => {
  test.for([
    ['127.0.0.1:10809', { host: '127.0.0.1', port: 10809 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    ['[::1]:65535', { host: '::1', port: 65535 }],
    ['[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
    ['unix:/run/nbd.sock', { path: '/run/nbd.sock' }],
    ['unix:a:b', { path: 'a:b' }],
    ['fd:3', { fd: 3 }],
  ] as const)('%s is read, and written as it was', ([text, where]) => {
    expect(parseAddress(text)).toEqual(where);
    expect(formatAddress(where)).toBe(text);
  });

  test.for([
    '',
    'localhost',
    ':10809',
    'host:',
    'host:65536',
    'host:1x',
    'a b:1',
    '::1:10809',
    '[::1]',
    'unix:',
    `unix:${'x'.repeat(108)}`,
    'unix:a\0b',
    'fd:x',
    'host:999999',
  ])('%j is refused, with the address in the sentence', (text) => {
    expect(() => parseAddress(text)).toThrow(
      expect.objectContaining({
        code: 'ERR_BAD_INPUT',
        message: expect.stringContaining(JSON.stringify(text)),
      }),
    );
  });

  test('of any text is read or refused by name', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          expect(parseAddress(formatAddress(parseAddress(text)))).toEqual(parseAddress(text));
        } catch (error) {
          expect(error).toBeInstanceOf(SheepError);
        }
      }),
    );
  });

  test.for([
    [{ path: '/run/x' }, true],
    [{ host: '127.0.0.1' }, true],
    [{ host: '127.9.9.9' }, true],
    [{ host: '::1' }, true],
    [{ host: '::ffff:127.0.0.1' }, true],
    [{ host: 'LOCALHOST' }, true],
    [{ host: '0.0.0.0' }, false],
    [{ host: '::' }, false],
    [{ host: '10.0.0.1' }, false],
    [{ host: '127.0.0.1.example.org' }, false],
    [{ host: 'localhost.example.org' }, false],
  ] as const)('%j is local: %j', ([where, local]) => {
    expect(isLocal(where)).toBe(local);
  });
});
