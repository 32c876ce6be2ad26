import { expect, test } from 'vitest';
import { KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { xxh3Sums } from '../../src/farm/checksums.ts';
import { giveMarks, NO_MARKS, takeMarks } from '../../src/farm/marks.ts';
import { OpenObject } from '../../src/farm/open-object.ts';
import { takeTable } from '../../src/farm/tables.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { blocks } from './store.ts';

const BLOCKS = 1024;

test('marks that are given back come again clear, and only for as many blocks', () => {
  const marks = takeMarks(BLOCKS);
  for (const bits of [marks.verified, marks.dirty, marks.unhomed]) bits.addRange(3, 70);
  giveMarks(marks);
  const again = takeMarks(BLOCKS);
  expect(again).toBe(marks);
  for (const bits of [again.verified, again.dirty, again.unhomed]) {
    expect([bits.count, bits.next(0)]).toEqual([0, BLOCKS]);
  }
  giveMarks(again);
  expect(takeMarks(2 * BLOCKS).verified.length).toBe(2 * BLOCKS);
});

test('the marks of no object are never lent', () => {
  giveMarks(NO_MARKS);
  expect(takeMarks(0)).not.toBe(NO_MARKS);
});

test('a closed object knows nothing of the one that has its marks now', async () => {
  const disk = new SimDisk({ directories: ['/store'] });
  const open = async (index: number) => {
    const name = { kind: KIND.data, vid: 5, index, slot: 0 };
    return new OpenObject({
      ...{ key: index, name, objectBytes: BLOCKS * BLOCK_BYTES, life: 1n, origins: undefined },
      ...{ stamp: { epoch: 1, attachEpoch: 1 }, table: takeTable(BLOCKS), sums: xxh3Sums },
      file: await disk.open(`/store/${index}`, { create: true }),
    });
  };
  const first = await open(1);
  first.writeNow(0, blocks(2, 7));
  expect([...first.dirty]).toEqual([0, 1]);
  first.close();
  const second = await open(2);
  second.writeNow(BLOCK_BYTES, blocks(1, 8));
  // A flush that had waited for the first one comes to it only now.
  expect([...first.dirty]).toEqual([]);
  first.dirty.clear();
  first.unhomed.clear();
  expect([second.dirty.count, second.unhomed.count, second.verified.count]).toEqual([1, 1, 1]);
  second.close();
});
