import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { recordExtent, SEGMENT_HEADER_BYTES } from '../../src/farm/journal-format.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import {
  blocks,
  CREATE,
  contents,
  DIRECTORY,
  DURABLE,
  everything,
  failureOf,
  nameOf,
  openStore,
  overwrite,
  PLAIN,
  SimStore,
  values,
} from './store.ts';

const A = nameOf(0);
const VID = A.vid;
const JOURNAL = `${DIRECTORY}/journal`;
const FIRST = `${JOURNAL}/0000000001`;

/** Where the records of a segment begin. */
function recordsOf(bytes: Uint8Array, segment = 1): number[] {
  const found: number[] = [];
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; ) {
    const extent = recordExtent(bytes.subarray(at, at + BLOCK_BYTES), segment, bytes.length - at);
    if (typeof extent === 'string') return found;
    found.push(at);
    at += extent.recordBytes;
  }
  return found;
}

/** What a power cut leaves of a store that flushed 1, 2 and 3 into one block, in three records. */
async function afterThreeFlushes(): Promise<{ disk: SimDisk; store: SimStore; records: number[] }> {
  const store = await SimStore.open();
  await store.farm.write(A, 0, blocks(1, 1), { ...CREATE, durable: true });
  for (const value of [2, 3]) await store.farm.write(A, 0, blocks(1, value), DURABLE);
  const disk = store.disk.powerCut('nothing');
  // The start, the object made, and three flushes.
  const records = recordsOf(await contents(disk, FIRST));
  expect(records).toHaveLength(5);
  return { disk, store, records };
}

/** Changes the segment's header and gives it the checksum that fits. */
async function changeHeader(disk: SimDisk, path: string, change: (view: DataView) => void) {
  const bytes = await contents(disk, path);
  const view = new DataView(bytes.buffer);
  change(view);
  view.setUint32(SEGMENT_HEADER_BYTES - 4, crc32(bytes.subarray(0, SEGMENT_HEADER_BYTES - 4)));
  await overwrite(disk, path, bytes);
}

const open = (disk: SimDisk) => openStore(disk, DIRECTORY);

describe('a damaged journal', () => {
  test('opens when it is not: the last flush is what the disk holds', async () => {
    const { disk } = await afterThreeFlushes();
    expect(await values(await open(disk), A, 2)).toBe('3 0');
  });

  test.for([
    ['the start', 0, 100],
    ['an object made', 1, 50],
    ['the head of a flush', 3, 20],
    ['an entry of a flush', 3, 60],
    ['the block of a flush', 3, BLOCK_BYTES + 7],
  ] as const)('in %s: refused by file and byte, and left as it is', async ([, place, offset]) => {
    const { disk, records } = await afterThreeFlushes();
    const at = records[place] as number;
    disk.flipBit(FIRST, at + offset, 1);
    const before = await everything(disk, DIRECTORY);
    expect(await failureOf(() => open(disk))).toMatchObject({
      code: 'ERR_CORRUPT',
      facts: { path: FIRST, at },
      message: expect.stringMatching(`${FIRST}.*byte ${at}`),
    });
    expect(await everything(disk, DIRECTORY)).toEqual(before);
  });

  test.for([20, 60, BLOCK_BYTES + 7])(
    'in its last record, at %i: taken for torn, as a power cut may leave it',
    async (offset) => {
      const { disk, records } = await afterThreeFlushes();
      disk.flipBit(FIRST, (records.at(-1) as number) + offset, 1);
      expect(await values(await open(disk), A, 2)).toBe('2 0');
    },
  );

  test.for([0, 5, 9, 30, 70, SEGMENT_HEADER_BYTES - 2])(
    'in byte %i of its header: refused by file',
    async (at) => {
      const { disk } = await afterThreeFlushes();
      disk.flipBit(FIRST, at, 1);
      expect(await failureOf(() => open(disk))).toMatchObject({
        code: 'ERR_CORRUPT',
        facts: { path: FIRST, at: 0 },
      });
    },
  );

  test('of another store is refused with the id of that one', async () => {
    const { disk } = await afterThreeFlushes();
    const other = await SimStore.open();
    await other.farm.write(A, 0, blocks(1, 9), { ...CREATE, durable: true });
    await overwrite(disk, FIRST, await contents(other.disk, FIRST));
    expect(await failureOf(() => open(disk))).toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining(other.farm.identity.nodeId),
    });
  });

  test('with a gap between its segments is refused', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    const names = () => store.disk.list(JOURNAL);
    while ((await names()).length < 3) await store.farm.write(A, 0, blocks(1, 1), DURABLE);
    const disk = store.disk.kill();
    await disk.remove(`${JOURNAL}/0000000002`);
    expect(await failureOf(() => open(disk))).toMatchObject({
      code: 'ERR_CORRUPT',
      facts: { path: `${JOURNAL}/0000000003`, at: 0 },
      message: expect.stringContaining('missing'),
    });
  });
});

describe('a journal of which nothing can be read', () => {
  test.for([
    ['gone', async (disk: SimDisk) => disk.remove(FIRST)],
    [
      'full of zeroes',
      async (disk: SimDisk) => {
        const { length } = await contents(disk, FIRST);
        await overwrite(disk, FIRST, new Uint8Array(length));
      },
    ],
    [
      'under the name of another segment',
      async (disk: SimDisk) => disk.rename(FIRST, `${JOURNAL}/0000000007`),
    ],
  ] as const)('because it is %s is missed, where there are objects', async ([, change]) => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.rest();
    const disk = store.disk.powerCut('nothing');
    await change(disk);
    const before = await everything(disk, DIRECTORY);
    expect(await failureOf(() => open(disk))).toMatchObject({
      code: 'ERR_MISSING',
      message: expect.stringContaining(JOURNAL),
    });
    expect(await everything(disk, DIRECTORY)).toEqual(before);
  });

  test('is begun anew where there are none: of a first start that was cut short', async () => {
    const { disk } = await SimStore.open();
    const cut = disk.powerCut('nothing');
    await cut.remove(FIRST);
    const farm = await open(cut);
    await farm.write(A, 0, blocks(1, 1), CREATE);
    expect(await values(farm, A, 1)).toBe('1');
  });
});

describe('a journal of a newer format', () => {
  const newer = (view: DataView) => view.setUint32(4, 3);
  const refusal = {
    code: 'ERR_VERSION',
    facts: { found: 3, known: 2 },
    message: expect.stringMatching(/format 3\b.*\b2\b/),
  };

  test('is refused with both versions, and left as it is', async () => {
    const { disk } = await afterThreeFlushes();
    await changeHeader(disk, FIRST, newer);
    const before = await everything(disk, DIRECTORY);
    expect(await failureOf(() => open(disk))).toMatchObject(refusal);
    expect(await everything(disk, DIRECTORY)).toEqual(before);
  });

  test('is refused also when its records look like none', async () => {
    const { disk } = await afterThreeFlushes();
    await changeHeader(disk, FIRST, (view) => {
      newer(view);
      new Uint8Array(view.buffer).fill(7, SEGMENT_HEADER_BYTES);
    });
    expect(await failureOf(() => open(disk))).toMatchObject(refusal);
  });
});

describe('segments', () => {
  const names = (store: SimStore) => store.disk.list(JOURNAL);

  test('are begun when one is full, and given back when nothing needs them', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    expect(await names(store)).toEqual(['0000000001']);
    while ((await names(store)).length < 2) await store.farm.write(A, 0, blocks(1, 1), DURABLE);
    expect(await names(store)).toEqual(['0000000001', '0000000002']);
    await store.farm.maintain();
    expect(await names(store)).toEqual(['0000000002', 'spare']);
    while ((await names(store)).includes('spare')) {
      await store.farm.write(A, 0, blocks(1, 1), DURABLE);
    }
    expect(await names(store)).toEqual(['0000000002', '0000000003']);
    while ((await names(store)).length < 3) await store.farm.write(A, 0, blocks(1, 1), DURABLE);
    await store.farm.maintain();
    expect(await names(store)).toEqual(['0000000004', 'spare']);
  });

  test('stay while they hold what no file holds', async () => {
    const store = await SimStore.open();
    await store.farm.write(nameOf(9), 0, blocks(1, 7), { ...CREATE, durable: true });
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    while ((await names(store)).length < 2) await store.farm.write(A, 0, blocks(1, 1), DURABLE);
    await store.powerCut();
    expect(await values(store.farm, nameOf(9), 1)).toBe('7');
  });

  test('are as many as there may be, whatever comes', async () => {
    const store = await SimStore.open();
    const most = SMALL_LIMITS.segmentsMax + 3;
    for (let step = 0; step < 600; step += 1) {
      const name = nameOf(step % 7);
      if (step % 5 === 0) await store.farm.remove(name, PLAIN);
      await store.farm.write(name, 0, blocks(1, step % 251), {
        ...CREATE,
        durable: step % 3 === 0,
      });
      if (step % 10 === 0) await store.farm.flush(VID);
      expect((await names(store)).length).toBeLessThanOrEqual(most);
    }
  });

  test('are used in turn at every start, and none is made anew', async () => {
    const store = await SimStore.open();
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    await store.restart();
    const { freeBytes } = await store.disk.space(DIRECTORY);
    for (const stop of ['kill', 'powerCut', 'restart', 'restart', 'kill'] as const) {
      await store[stop]();
      expect(await names(store)).toEqual([expect.stringMatching(/^\d{10}$/), 'spare']);
      expect((await store.disk.space(DIRECTORY)).freeBytes).toBeGreaterThanOrEqual(freeBytes);
    }
  });

  test('hold an activity log that is longer than a segment', async () => {
    const store = await SimStore.open();
    const many = Array.from({ length: 4000 }, (_, index) => nameOf(index));
    await store.farm.announce(many, 8 * BLOCK_BYTES, PLAIN);
    await store.farm.write(A, 0, blocks(1, 1), CREATE);
    const segmentsBefore = Number((await names(store)).filter((name) => name !== 'spare').at(-1));
    for (let value = 0; value < 6; value += 1) {
      await store.farm.write(A, 0, blocks(1, value), DURABLE);
    }
    // Six records of 8 KiB: something fits behind every snapshot.
    const segments = Number((await names(store)).filter((name) => name !== 'spare').at(-1));
    expect(segments - segmentsBefore).toBeLessThanOrEqual(2);
    await store.powerCut();
    expect(store.farm.unsettled(VID)).toHaveLength(4000);
    expect(await values(store.farm, A, 1)).toBe('5');
  });
});
