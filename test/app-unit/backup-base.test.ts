import { describe, expect, test } from 'vitest';
import {
  type Backup,
  type Backups,
  findBackup,
  findEntry,
  shortId,
} from '../../src/app/backup/backups.ts';
import { findBase } from '../../src/app/backup/base.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';

const CLUSTER = 'c1';

/** A snapshot, or, without a tag, a working VDI. */
function record(vid: number, parent: number, tag: string, name = 'disk'): VolumeRecord {
  return {
    ...{ name, vid, family: 1, parent, tag, sizeBytes: 4096, shrunkFromBytes: 0 },
    ...{ objectBytes: 2 ** 20, attachEpoch: 1, createdMs: vid * 1000, allow: [] },
    state: tag === '' ? 'ready' : 'snapshot',
  };
}

function backup(of: VolumeRecord, id: string, more: Partial<Backup['disk']> = {}): Backup {
  const { family, vid, name, tag, createdMs, sizeBytes, objectBytes } = of;
  return {
    entry: { log: 'user', name: new Uint8Array(32), id, epoch: 0, timeMs: 0, tag: `tag-${id}` },
    disk: {
      ...{ clusterId: CLUSTER, family, vid, parent: 0, name, snapshot: tag },
      ...{ snapshotMs: createdMs, createdMs, allow: [] },
      ...{ sizeBytes, objectBytes, root: new Uint8Array(32), ...more },
    },
  };
}

describe('the base of a backup', () => {
  const [a, b, c] = [record(1, 0, 'a'), record(2, 1, 'b'), record(3, 2, 'c')];
  const all = [a, b, c];
  const baseOf = (backups: Backup[], later = c, records = all) =>
    findBase(backups, CLUSTER, records, later)?.backup.entry.id;

  test('is the nearest state below that is in the store, whenever it was backed up', () => {
    expect(baseOf([backup(b, '0b'), backup(a, '0a')])).toBe('0b');
    expect(baseOf([backup(a, '0a')])).toBe('0a');
    expect(baseOf([])).toBeUndefined();
  });

  test('is the last of several backups of one snapshot, and that snapshot itself if it is there', () => {
    expect(baseOf([backup(b, '01'), backup(b, '02')])).toBe('02');
    expect(baseOf([backup(c, '0c'), backup(b, '0b')])).toBe('0c');
  });

  test.each<[string, Partial<Backup['disk']>]>([
    ['another cluster', { clusterId: 'c2' }],
    ['another family', { family: 9 }],
    ['objects of another size', { objectBytes: 2 ** 22 }],
    ['a store of VDIs that was set back, where the vid was given anew', { snapshotMs: 5 }],
  ])('is none of %s', (_title, other) => {
    expect(baseOf([backup(b, '0b', other)])).toBeUndefined();
  });

  test('is none that was deleted, or is behind another of its tag: nobody tells what changed', () => {
    const deleted: VolumeRecord = { ...b, state: 'deleting' };
    expect(baseOf([backup(b, '0b')], c, [a, deleted, c])).toBeUndefined();
    expect(baseOf([backup(b, '0b'), backup(a, '0a')], c, [a, deleted, c])).toBe('0a');
    const twin = record(2, 1, 'a', 'clone');
    expect(baseOf([backup(a, '0a')], c, [a, twin, c])).toBeUndefined();
  });

  test('is no state that only shares an ancestor', () => {
    const sibling = record(4, 1, 'd');
    expect(baseOf([backup(sibling, '0d')], c, [...all, sibling])).toBeUndefined();
    expect(baseOf([backup(sibling, '0d'), backup(a, '0a')], c, [...all, sibling])).toBe('0a');
  });
});

describe('what a person calls a backup', () => {
  const of = record(1, 0, 'a');
  const [one, two, three] = [
    backup(of, 'abcdef0123456789'),
    backup(of, 'abcdef0123999999'),
    backup(of, 'fedcba9876543210'),
  ];
  const backups: Backups = {
    sound: [one, two],
    lost: [{ entry: three.entry, flaw: 'it is gone' }],
  };
  const entries = [one, two, three].map(({ entry }) => entry);

  test('is shown with as many digits as tell it from all others, eight at least', () => {
    expect(entries.map((entry) => shortId(entries, entry))).toEqual([
      ...['abcdef01234', 'abcdef01239', 'fedcba98'],
    ]);
  });

  test('is the beginning of its ID, in any case, or its tag', () => {
    expect(findBackup(backups, 'ABCDEF01234')).toBe(one);
    expect(findBackup(backups, 'abcdef0123999999')).toBe(two);
    expect(findBackup(backups, `tag-${two.entry.id}`)).toBe(two);
  });

  test('is refused if it may be several, none or one that is lost', () => {
    expect(() => findBackup(backups, 'abc')).toThrow(/may be any of abcdef01234, abcdef01239;/);
    expect(() => findBackup(backups, '')).toThrow(/no backup ''/);
    expect(() => findBackup(backups, 'tag')).toThrow(/no backup 'tag'/);
    expect(() => findBackup(backups, 'fed')).toThrow(/backup fedcba98\d+ is lost: it is gone/);
    // It can still be deleted.
    expect(findEntry(backups, 'fed')).toBe(three.entry);
  });
});
