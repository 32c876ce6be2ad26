import { expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import type { Entry } from '../../src/contracts/coordinator.ts';
import { DEFAULT_RULES } from '../../src/vdi/access-rules.ts';
import { DecodedRecords } from '../../src/vdi/decoded-records.ts';
import { encodeRecord } from '../../src/vdi/record.ts';

function entry(vid: number, revision: bigint, sizeBytes = 2 ** 20): Entry {
  const value = encodeRecord({
    ...{ name: `vm${vid}`, vid, family: vid, parent: 0, tag: '', state: 'ready' },
    ...{ sizeBytes, shrunkFromBytes: 0, objectBytes: 2 ** 22 },
    ...{ attachEpoch: 0, createdMs: 1, allow: DEFAULT_RULES },
  });
  return { key: `vdi/records/${vid}`, value, revision };
}

test('a record is decoded once for each revision, whoever asks', () => {
  const decoded = new DecodedRecords();
  const [one, two] = [entry(1, 5n), entry(2, 6n)];
  const first = decoded.of(one);
  expect(decoded.of({ ...one })).toBe(first);
  expect(decoded.all([one, two])[0]).toBe(first);
  expect(decoded.all([one, two])).toEqual([first, decoded.of(two)]);
  const changed = decoded.of(entry(1, 7n, 2 ** 21));
  expect(changed.sizeBytes).toBe(2 ** 21);
  expect(decoded.all([entry(1, 7n, 2 ** 21), two])[0]).toBe(changed);
});

test('what is no longer there is kept no longer', () => {
  const decoded = new DecodedRecords();
  for (let vid = 1; vid <= 50; vid += 1) decoded.of(entry(vid, 1n));
  decoded.all([entry(7, 1n), entry(51, 2n)]);
  expect(decoded.size).toBe(2);
  decoded.forget('vdi/records/7');
  expect(decoded.size).toBe(1);
  decoded.all([]);
  expect(decoded.size).toBe(0);
});

test('a damaged record is told of each time, and the others stay', () => {
  const decoded = new DecodedRecords();
  const damaged = { ...entry(1, 1n), value: new TextEncoder().encode('{}') };
  for (let count = 0; count < 2; count += 1) {
    expect(() => decoded.all([entry(2, 1n), damaged])).toThrow(SheepError);
    expect(() => decoded.of(damaged)).toThrow(SheepError);
  }
  expect(decoded.size).toBe(1);
});

test('nobody changes a record that others are given too', () => {
  const record = new DecodedRecords().of(entry(1, 1n));
  expect(() => Object.assign(record, { sizeBytes: 0 })).toThrow(TypeError);
});
