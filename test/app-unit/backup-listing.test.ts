import { describe, expect, test } from 'vitest';
import { backupsIn } from '../../src/app/backup/backups.ts';
import { usageOf } from '../../src/app/backup/usage.ts';
import type { SnapDisk } from '../../src/farm/snapshots/snap-contents.ts';
import { beginWriting } from '../../src/farm/snapshots/writer.ts';
import { content, emptyDisk, openStore, SHAPE } from '../farm/snapshots/store-world.ts';

const DISK: SnapDisk = {
  ...{ clusterId: 'c', family: 1, vid: 1, parent: 0, name: 'disk', snapshot: 's' },
  ...{ snapshotMs: 0, createdMs: 0, allow: [] },
  ...{ sizeBytes: SHAPE.sliceBytes, objectBytes: SHAPE.sliceBytes, root: new Uint8Array(32) },
};
const snap = (disks: readonly SnapDisk[], tag = '') => ({
  ...{ epoch: 0, timeMs: 5, tag, nodes: [], disks },
});

describe('the backups in a store', () => {
  test('are the snaps of one disk each: what else lies there is left alone', async () => {
    await using store = await openStore({ disk: emptyDisk() });
    await using writer = await beginWriting(store);
    await writer.appendSnap('user', snap([DISK, { ...DISK, vid: 2 }]));
    await writer.appendSnap('user', snap([]));
    const node = { nodeId: 'n', version: '1', store: '/s', nbd: [] };
    await writer.appendSnap('user', { ...snap([DISK]), nodes: [node] });
    await writer.appendSnap('sys', snap([DISK]));
    const { id } = await writer.appendSnap('user', snap([DISK]));
    const { sound, lost } = await backupsIn(store);
    expect(sound.map(({ entry }) => entry.id)).toEqual([id]);
    expect(lost).toEqual([]);
  });

  test.each<[string, SnapDisk, string]>([
    ['moves the cursor', { ...DISK, name: '\u001b[2J' }, ''],
    ['has an empty name', { ...DISK, name: '' }, ''],
    ['is of a snapshot that cannot be', { ...DISK, snapshot: '17' }, ''],
    ['has a tag of two lines', DISK, 'a\nb'],
  ])('one that %s is lost, and shown without its words', async (_title, disk, tag) => {
    await using store = await openStore({ disk: emptyDisk() });
    await using writer = await beginWriting(store);
    const { id } = await writer.appendSnap('user', snap([disk], tag));
    const { sound, lost } = await backupsIn(store);
    expect(sound).toEqual([]);
    expect(lost).toMatchObject([{ entry: { id } }]);
    expect(lost[0]?.flaw).toMatch(/^it is of what no VDI can be called \(/);
  });

  test('take what they need, and alone what no other snap needs', async () => {
    await using store = await openStore({ disk: emptyDisk() });
    await using writer = await beginWriting(store);
    // A disk of one slice: its root is its only leaf.
    const leafOf = async (seed: number) => {
      const name = await writer.put('data', content(seed));
      const leaf = new Uint8Array(8 + name.length);
      new DataView(leaf.buffer).setUint16(0, 1);
      new DataView(leaf.buffer).setUint32(4, 1);
      leaf.set(name, 8);
      return writer.put('trunk', leaf);
    };
    const [one, other] = [await leafOf(1), await leafOf(2)];
    await writer.appendSnap('user', snap([{ ...DISK, root: one }], 'a'));
    await writer.appendSnap('user', snap([{ ...DISK, root: one }], 'b'));
    await writer.appendSnap('sys', snap([{ ...DISK, root: other }], 'c'));
    await writer.appendSnap('user', snap([{ ...DISK, root: other }], 'd'));
    const { sound } = await backupsIn(store);
    for (const backup of sound) {
      const { neededBytes, exclusiveBytes, contentBytes } = await usageOf(store, backup);
      // Only the snap itself is its own.
      expect(contentBytes).toBe(SHAPE.sliceBytes);
      expect(exclusiveBytes).toBeLessThan(400);
      expect(neededBytes - exclusiveBytes).toBeGreaterThan(SHAPE.sliceBytes / 2);
    }
    const [first, second] = store.snaps('user');
    if (first === undefined || second === undefined) throw new Error('there are several');
    await writer.cancelSnap(first);
    const b = (await backupsIn(store)).sound.find(({ entry }) => entry.id === second.id);
    if (b === undefined) throw new Error('it is still there');
    const usage = await usageOf(store, b);
    expect(usage.exclusiveBytes).toBe(usage.neededBytes);
  });
});
