import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatIp,
  type IpAddress,
  isInNetwork,
  masked,
  parseIp,
  unmapped,
  unmappedNetwork,
} from '../../src/base/ip.ts';

const ip = (text: string): IpAddress => {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`${text} is no address`);
  return parsed;
};
const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
/** Runs of zeroes are what can be written in more than one way. */
const v6 = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])));
const any = fc.oneof(v4, v6);

describe('an IP address', () => {
  test.for([
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '::1'],
    ['::', '::'],
    ['FE80::0001', 'fe80::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:0:2:0:0:3:4', '1::2:0:0:3:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::ffff:10.1.2.3', '::ffff:a01:203'],
    ['64:ff9b::10.1.2.3', '64:ff9b::a01:203'],
  ])('%s is written as %s', ([text, written]) => expect(formatIp(ip(text!))).toBe(written));

  test('is read as Node reads it, and whatever Node does not read is refused', () => {
    const likely = fc
      .array(
        fc.constantFrom(
          '0',
          '1',
          '255',
          '256',
          '01',
          'ff',
          'FFFF',
          'g',
          '.',
          ':',
          '::',
          '/',
          ' ',
          '%',
        ),
        {
          maxLength: 17,
        },
      )
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), likely, fc.string()), (text) => {
        fc.pre(!text.includes('%')); // the zone of a link is not of the address
        const length = { 0: undefined, 4: 4, 6: 16 }[isIP(text)];
        expect(parseIp(text)?.length).toBe(length);
      }),
      { numRuns: 3000 },
    );
  });

  test('is the same after writing and reading', () => {
    fc.assert(
      fc.property(any, (address) => {
        expect(ip(formatIp(address))).toEqual(address);
      }),
    );
  });

  test('that is v4-mapped stands for the IPv4 address', () => {
    fc.assert(
      fc.property(v4, (address) => {
        expect(unmapped(ip(`::ffff:${formatIp(address)}`))).toEqual(address);
        expect(unmapped(address)).toEqual(address);
      }),
    );
    expect(unmapped(ip('::fffe:10.0.0.1'))).toHaveLength(16);
    expect(unmapped(ip('1::ffff:10.0.0.1'))).toHaveLength(16);
  });
});

describe('a network', () => {
  test('holds what agrees with it in its first bits, and nothing else', () => {
    const network = { address: ip('10.16.0.0'), prefixBits: 12 };
    for (const inside of ['10.16.0.0', '10.31.255.255']) {
      expect(isInNetwork(ip(inside), network)).toBe(true);
    }
    for (const outside of ['10.15.255.255', '10.32.0.0', '110.16.0.0', '10::16:0:0', '::']) {
      expect(isInNetwork(ip(outside), network)).toBe(false);
    }
  });

  test('holds what Node says it holds', () => {
    fc.assert(
      fc.property(any, any, fc.nat(128), fc.nat(128), (some, other, bits, same) => {
        fc.pre(bits <= some.length * 8);
        // Addresses that agree for a while, because any two hardly ever do.
        const address =
          some.length === other.length
            ? some.map((byte, at) => {
                const mask = masked(new Uint8Array(16).fill(255), same)[at]!;
                return (byte & mask) | (other[at]! & ~mask);
              })
            : other;
        const family = (one: IpAddress) => (one.length === 4 ? 'ipv4' : 'ipv6');
        const oracle = new BlockList();
        oracle.addSubnet(formatIp(some), bits, family(some));
        // Node lets IPv6 networks hold mapped addresses; here they are unmapped before.
        fc.pre(family(address) === family(some));
        const network = { address: masked(some, bits), prefixBits: bits };
        expect(isInNetwork(address, network)).toBe(
          oracle.check(formatIp(address), family(address)),
        );
      }),
      { numRuns: 2000 },
    );
  });

  test('of v4-mapped addresses is the IPv4 network', () => {
    const mapped = { address: ip('::ffff:10.0.0.0'), prefixBits: 104 };
    expect(unmappedNetwork(mapped)).toEqual({ address: ip('10.0.0.0'), prefixBits: 8 });
    const wider = { address: ip('::'), prefixBits: 0 };
    expect(unmappedNetwork(wider)).toEqual(wider);
  });
});
