import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { GiB, MiB } from '../../src/base/units.ts';
import { decodeRecord, encodeRecord, type VolumeRecord } from '../../src/vdi/record.ts';

const record: VolumeRecord = {
  name: 'demo',
  vid: 42,
  family: 42,
  parent: 0,
  tag: '',
  shrunkFromBytes: 0,
  sizeBytes: 8 * GiB,
  objectBytes: 4 * MiB,
  attachEpoch: 3,
  createdMs: 1_795_000_000_000,
  allow: ['unix', 'cidr:10.0.0.0/8'],
  state: 'ready',
};
const golden =
  '{"version":4,"name":"demo","vid":42,"family":42,"parent":0,"tag":"",' +
  '"sizeBytes":8589934592,"shrunkFromBytes":0,"objectBytes":4194304,"attachEpoch":3,"createdMs":1795000000000,' +
  '"allow":["unix","cidr:10.0.0.0/8"],"state":"ready"}';
const bytes = (text: string) => new TextEncoder().encode(text);

describe('the volume record', () => {
  test('version 4 is this text and no other', () => {
    expect(new TextDecoder().decode(encodeRecord(record))).toBe(golden);
    expect(decodeRecord(bytes(golden), 'key')).toEqual(record);
  });

  test('of a snapshot has a tag, which is none of digits, also while it is deleted', () => {
    for (const state of ['snapshot', 'deleting'] as const) {
      const frozen = { ...record, state, tag: 'monday', parent: 41 };
      expect(decodeRecord(encodeRecord(frozen), 'key')).toEqual(frozen);
      const wrong = encodeRecord({ ...frozen, tag: '42' });
      expect(() => decodeRecord(wrong, 'key')).toThrow(/damaged/);
    }
  });

  test('of what is held for a snapshot of the cluster has no tag, and has none later', () => {
    for (const state of ['held', 'released'] as const) {
      const held = { ...record, state, parent: 41 };
      expect(decodeRecord(encodeRecord(held), 'key')).toEqual(held);
      const tagged = encodeRecord({ ...held, tag: 'monday' });
      expect(() => decodeRecord(tagged, 'key')).toThrow(/wrong tag/);
    }
  });

  test('of a snapshot that was loaded says which one it is, and no other says so', () => {
    const origin = '00000000-0000-4000-8000-00000000000a/4294967295';
    for (const state of ['making', 'snapshot', 'deleting'] as const) {
      const loaded = { ...record, state, tag: 'monday', origin };
      expect(decodeRecord(encodeRecord(loaded), 'key')).toEqual(loaded);
      for (const wrong of ['', 'x/1', origin.replace('/', '/0'), origin.slice(1)]) {
        const damaged = encodeRecord({ ...loaded, origin: wrong });
        expect(() => decodeRecord(damaged, 'key')).toThrow(/wrong origin/);
      }
    }
    expect(() => decodeRecord(encodeRecord({ ...record, origin }), 'key')).toThrow(/wrong origin/);
  });

  test('a newer one is refused with both versions named', () => {
    const newer = bytes(golden.replace('"version":4', '"version":5,"tags":[]'));
    expect(() => decodeRecord(newer, 'vdi/records/0000002a')).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/0000002a has format version 5, this sheep reads 4/),
      }),
    );
  });

  test.for<[string, string, RegExp]>([
    ['"vid":42', '"vid":0', /wrong vid: 0/],
    ['"vid":42', '"vid":4294967296', /wrong vid/],
    ['"vid":42', '"vid":"42"', /wrong vid: "42"/],
    ['"family":42,', '', /wrong family: absent/],
    ['"sizeBytes":8589934592', '"sizeBytes":8589934593', /wrong sizeBytes/],
    ['"sizeBytes":8589934592', '"sizeBytes":0', /wrong sizeBytes: 0/],
    ['"objectBytes":4194304', '"objectBytes":4194305', /damaged/],
    ['"objectBytes":4194304', '"objectBytes":134217728', /damaged/],
    ['"attachEpoch":3', '"attachEpoch":-1', /wrong attachEpoch: -1/],
    ['"attachEpoch":3', '"attachEpoch":0.5', /wrong attachEpoch: 0.5/],
    ['"state":"ready"', '"state":"gone"', /wrong state: "gone"/],
    ['"state":"ready"', '"state":"ready","extra":1', /wrong extra/],
    ['"name":"demo"', '"name":"de mo"', /damaged/],
    ['"parent":0', '"parent":-1', /wrong parent: -1/],
    ['"tag":""', '"tag":"monday"', /wrong tag: "monday"/],
    ['"tag":"",', '', /wrong tag: absent/],
    ['"state":"ready"', '"state":"snapshot"', /wrong tag: ""/],
    ['"shrunkFromBytes":0', '"shrunkFromBytes":4096', /wrong shrunkFromBytes: 4096/],
    ['"version":4', '"version":null', /wrong version: null/],
    ['"allow":["unix","cidr:10.0.0.0/8"],', '', /wrong allow: absent/],
    ['["unix","cidr:10.0.0.0/8"]', '[]', /wrong allow: \[\]/],
    ['["unix","cidr:10.0.0.0/8"]', '"unix"', /wrong allow: "unix"/],
    ['"unix",', '"unix","unix",', /wrong allow/],
    ['"unix",', '7,', /wrong allow: \[7/],
    ['cidr:10.0.0.0/8', 'cidr:10.0.0.1/8', /wrong allow/],
    ['cidr:10.0.0.0/8', 'CIDR:10.0.0.0/8', /wrong allow/],
    ['cidr:10.0.0.0/8', 'cert:%61', /wrong allow/],
    ['{', '[', /not JSON/],
    [golden, '[]', /not a JSON object/],
    [golden, 'null', /not a JSON object/],
    [golden, '', /not JSON/],
  ])('%s as %s is damage', ([right, wrong, message]) => {
    expect(() => decodeRecord(bytes(golden.replace(right, wrong)), 'the/key')).toThrow(
      expect.objectContaining({
        code: 'ERR_CORRUPT',
        message: expect.stringMatching(message),
      }),
    );
  });

  test('any bytes and any JSON are decoded or refused with the key named', () => {
    const refused = (input: Uint8Array) => {
      try {
        decodeRecord(input, 'the/key');
      } catch (error) {
        expect(error).toBeInstanceOf(SheepError);
        expect((error as SheepError).message).toContain('the/key');
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), refused));
    fc.assert(fc.property(fc.json(), (json) => refused(bytes(json))));
    const fields = Object.keys(JSON.parse(golden));
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) =>
        refused(bytes(JSON.stringify({ ...JSON.parse(golden), [field]: value }))),
      ),
    );
  });
});
