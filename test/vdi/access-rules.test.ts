import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Client } from '../../src/contracts/exports.ts';
import { canonicalRules, ruleFor } from '../../src/vdi/access-rules.ts';

const ALONE = { networkTrusted: false };
const unix: Client = { name: 'unix:/run/nbd', transport: 'unix' };
const tcp = (address: string, proof?: Client['proof']): Client => ({
  name: `${address}:1`,
  ...{ transport: 'tcp', address, ...(proof && { proof }) },
});
const certificate = (commonName: string) => tcp('192.0.2.1', { kind: 'certificate', commonName });
const psk = (user: string) => tcp('192.0.2.1', { kind: 'psk', user });
const letsIn = (client: Client, ...rules: string[]) =>
  ruleFor(client, canonicalRules(rules), ALONE) !== undefined;

/** Names as people and authorities give them, and the marks that rules are written with. */
const names = fc
  .array(
    fc.oneof(
      fc.constantFrom(',', '%', ':', '/', ' ', '\n', '*', '\\', 'é', '\u200b', '😀', 'a'),
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 3 }),
    ),
    {
      minLength: 1,
      maxLength: 12,
    },
  )
  .map((parts) => parts.join('').toWellFormed());

describe('an access rule', () => {
  test.for([
    ['cidr:10.0.0.0/8', 'cidr:10.0.0.0/8'],
    ['cidr:10.1.2.3', 'cidr:10.1.2.3/32'],
    ['cidr:FD00:0::/8', 'cidr:fd00::/8'],
    ['cidr:::1', 'cidr:::1/128'],
    ['cidr:::ffff:10.0.0.0/104', 'cidr:10.0.0.0/8'],
    ['cidr:::ffff:0:0/96', 'cidr:0.0.0.0/0'],
    ['cert:web 1', 'cert:web%201'],
    ['cert:a%2cb', 'cert:a%2Cb'],
    ['cert:%63af%C3%A9', 'cert:café'],
    ['psk:alice:bob', 'psk:alice:bob'],
  ])('%s is stored as %s', ([text, stored]) => expect(canonicalRules([text!])).toEqual([stored]));

  test.for<[string, RegExp]>([
    ['', /give default, unix, cidr:ADDRESS\/BITS, cert:NAME or psk:USER/],
    ['Default', /give default/],
    ['unix:', /give default/],
    ['unix ', /give default/],
    ['ip:10.0.0.1', /give default/],
    ['cidr:', /give the address of a network/],
    ['cidr:10.0.0.0/8/8', /give the address/],
    ['cidr:10.0.0', /give the address/],
    ['cidr:010.0.0.0/8', /give the address/],
    ['cidr:store.lan/8', /give the address/],
    ['cidr:fe80::1%eth0/128', /give the address/],
    ['cidr:[::1]/128', /give the address/],
    ['cidr:10.0.0.0/', /from 0 to 32/],
    ['cidr:10.0.0.0/33', /from 0 to 32/],
    ['cidr:10.0.0.0/08', /from 0 to 32/],
    ['cidr:::/129', /from 0 to 128/],
    ['cidr:10.0.0.1/8', /the address cidr:10\.0\.0\.1\/32 or the network cidr:10\.0\.0\.0\/8\?/],
    ['cidr:::ffff:10.0.0.0/80', /is it the address/],
    ['cert:', /1 to 255 bytes/],
    [`psk:${'é'.repeat(128)}`, /1 to 255 bytes/],
    ['cert:%', /write %25/],
    ['cert:%ff', /write %25/],
    ['cert:\ud800', /write %25/],
  ])('%j is none, and what to write instead is told', ([text, message]) => {
    expect(() => canonicalRules([text])).toThrow(
      expect.objectContaining({ code: 'ERR_BAD_INPUT', message: expect.stringMatching(message) }),
    );
  });

  test('stands once in a list, which has 1 to 64 of them', () => {
    expect(canonicalRules(['unix', 'cidr:10.0.0.1', 'unix', 'cidr:10.0.0.1/32'])).toEqual([
      'unix',
      'cidr:10.0.0.1/32',
    ]);
    const many = (count: number) => Array.from({ length: count }, (_, index) => `psk:${index}`);
    expect(canonicalRules(many(64))).toHaveLength(64);
    for (const count of [0, 65]) {
      expect(() => canonicalRules(many(count))).toThrow(/give 1 to 64 access rules/);
    }
  });

  test('has one form: stored again it is the same, and holds no comma, space or unseen character', () => {
    fc.assert(
      fc.property(fc.constantFrom('cert', 'psk'), names, (kind, name) => {
        const [stored] = canonicalRules([`${kind}:${encodeURIComponent(name)}`]);
        expect(stored).not.toMatch(/[,\s\p{Cc}\p{Cf}]/u);
        expect(canonicalRules([stored!])).toEqual([stored]);
      }),
    );
  });
});

describe('who is let in', () => {
  test('by default: programs of this machine and certificates of our authority', () => {
    for (const local of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
      expect(letsIn(tcp(local), 'default')).toBe(true);
    }
    for (const foreign of ['126.255.255.255', '128.0.0.1', '192.0.2.1', '::2', 'fe80::1%lo', '']) {
      expect(letsIn(tcp(foreign), 'default')).toBe(false);
    }
    expect(letsIn(unix, 'default')).toBe(true);
    expect(letsIn(certificate('anybody'), 'default')).toBe(true);
    expect(letsIn(psk('alice'), 'default')).toBe(false);
    expect(letsIn(psk('alice'), 'default', 'psk:alice')).toBe(true);
  });

  test('by default everybody where the operator trusts the network; a list stays what it says', () => {
    const trusted = { networkTrusted: true };
    expect(ruleFor(tcp('192.0.2.1'), ['default'], trusted)).toBe('default');
    expect(ruleFor({ name: 'gone', transport: 'tcp' }, ['unix', 'default'], trusted)).toBe(
      'default',
    );
    expect(ruleFor(tcp('192.0.2.1'), ['unix', 'cidr:10.0.0.0/8'], trusted)).toBeUndefined();
  });

  test('by unix: who came through a unix socket, and not who comes from this machine', () => {
    expect(letsIn(unix, 'unix')).toBe(true);
    expect(letsIn(tcp('127.0.0.1'), 'unix')).toBe(false);
    expect(letsIn(certificate('unix'), 'unix')).toBe(false);
  });

  test('by cidr: addresses, mapped ones too, whatever was proven besides', () => {
    const rule = 'cidr:192.0.2.0/24';
    expect(letsIn(tcp('192.0.2.200'), rule)).toBe(true);
    expect(letsIn(tcp('::ffff:192.0.2.200'), rule)).toBe(true);
    expect(letsIn(psk('alice'), rule)).toBe(true);
    expect(letsIn(tcp('fe80::1%eth0'), 'cidr:fe80::/10')).toBe(true);
    expect(letsIn(tcp('192.0.3.1'), rule)).toBe(false);
    expect(letsIn(tcp('192.0.2.1'), 'cidr:::/0')).toBe(false);
    expect(letsIn(tcp('::ffff:192.0.2.1'), 'cidr:::/0')).toBe(false);
    expect(letsIn(unix, 'cidr:0.0.0.0/0', 'cidr:::/0')).toBe(false);
    expect(letsIn({ name: 'gone', transport: 'tcp' }, 'cidr:0.0.0.0/0')).toBe(false);
  });

  test('by name: the whole name and no part of it, whichever it is', () => {
    fc.assert(
      fc.property(names, names, (name, other) => {
        const rule = (kind: string) => `${kind}:${encodeURIComponent(name)}`;
        expect(letsIn(certificate(name), rule('cert'))).toBe(true);
        expect(letsIn(psk(name), rule('psk'))).toBe(true);
        expect(letsIn(certificate(name), rule('psk'))).toBe(false);
        expect(letsIn(psk(name), rule('cert'))).toBe(false);
        const near = [other, name + other, other + name, name.slice(1), name.slice(0, -1)];
        const changed = [name.toUpperCase(), name.toLowerCase(), `${name}\0`, name.trim()];
        for (const wrong of [...near, ...changed].filter((each) => each !== name)) {
          expect(letsIn(certificate(wrong), rule('cert'))).toBe(false);
          expect(letsIn(psk(wrong), rule('psk'))).toBe(false);
        }
      }),
    );
  });

  test('by the first rule that fits, which is told', () => {
    const rules = canonicalRules(['unix', 'cert:web', 'default']);
    expect(ruleFor(certificate('web'), rules, ALONE)).toBe('cert:web');
    expect(ruleFor(certificate('db'), rules, ALONE)).toBe('default');
    expect(ruleFor(unix, rules, ALONE)).toBe('unix');
    expect(ruleFor(tcp('192.0.2.1'), rules, ALONE)).toBeUndefined();
  });
});
