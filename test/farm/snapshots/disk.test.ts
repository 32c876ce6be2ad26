import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES as B } from '../../../src/base/units.ts';
import { captureDisk } from '../../../src/farm/snapshots/capture.ts';
import { planRestore, restoreDisk } from '../../../src/farm/snapshots/restore.ts';
import type { ByteRange } from '../../../src/farm/snapshots/slice-runs.ts';
import type { SnapshotStore } from '../../../src/farm/snapshots/store.ts';
import { beginWriting, type StoreWriter } from '../../../src/farm/snapshots/writer.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import { MemoryDevice } from '../../app-unit/memory-device.ts';
import { change, OBJECT, someDisk } from './backups.ts';
import { emptyDisk, openStore } from './store-world.ts';

async function withStore(
  act: (store: SnapshotStore, writer: StoreWriter) => Promise<void>,
): Promise<void> {
  await using store = await openStore({ disk: emptyDisk() });
  await using writer = await beginWriting(store);
  await act(store, writer);
}

async function restored(
  store: SnapshotStore,
  root: Uint8Array,
  like: MemoryDevice,
): Promise<MemoryDevice> {
  const device = new MemoryDevice(like.info.sizeBytes);
  const { sizeBytes } = like.info;
  await restoreDisk({ store, root, device, sizeBytes, objectBytes: OBJECT });
  return device;
}

describe.for([1, 4, 5, 130 * 4, 129 * 129 * 4])('a disk of %i blocks', (blocks) => {
  test('comes back byte for byte, with its holes', async () => {
    await withStore(async (store, writer) => {
      const device = blocks > 10_000 ? new MemoryDevice(blocks * B) : someDisk(blocks, blocks);
      change(device, blocks - 1, 5);
      const { root, counts } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
      await writer.barrier();
      expect(counts.readBytes).toBe(device.written.filter(Boolean).length * B);
      const again = await restored(store, root, device);
      expect(Buffer.compare(again.bytes, device.bytes)).toBe(0);
      expect(again.written).toEqual(device.written);
    });
  });
});

test('a disk of zeroes is the name of zeroes, and stores nothing', async () => {
  await withStore(async (store, writer) => {
    const device = new MemoryDevice(100 * B).fill(0, 50, 0);
    const { root, counts } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
    expect(root).toEqual(new Uint8Array(32));
    expect(counts).toMatchObject({ readBytes: 50 * B, newBytes: 0, sharedBytes: 0 });
  });
});

describe('with a base', () => {
  const BLOCKS = 150 * 4 + 3;

  test('only what is said to have changed is read, and the trees share the rest', async () => {
    await withStore(async (store, writer) => {
      const device = someDisk(BLOCKS, 3);
      const first = await captureDisk({ store, writer, device, objectBytes: OBJECT });
      await writer.barrier();
      const before = store.packs.index.count;
      change(device, 77, 1000);
      device.punch(300, 310);
      const changed = [
        { at: 77 * B, length: B },
        { at: 300 * B, length: 10 * B },
      ];
      device.asked.length = 0;
      const base = { root: first.root, sizeBytes: device.info.sizeBytes, changed };
      const second = await captureDisk({ store, writer, device, objectBytes: OBJECT, base });
      await writer.barrier();
      expect(device.asked).toEqual([{ name: 'read', at: 77 * B, length: B }]);
      // One slice, three leaves, the nodes of two groups, the root.
      expect(store.packs.index.count - before).toBeLessThanOrEqual(1 + 4 + 2 + 1);
      const again = await restored(store, second.root, device);
      expect(Buffer.compare(again.bytes, device.bytes)).toBe(0);
      // The same state read in full has the same name.
      const full = await captureDisk({ store, writer, device, objectBytes: OBJECT });
      expect(full.root).toEqual(second.root);
      expect(full.counts.newBytes).toBe(0);
    });
  });

  test('nothing changed: the same root, and nothing is read', async () => {
    await withStore(async (store, writer) => {
      const device = someDisk(BLOCKS, 4);
      const { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
      device.asked.length = 0;
      const base = { root, sizeBytes: device.info.sizeBytes, changed: [] };
      const again = await captureDisk({ store, writer, device, objectBytes: OBJECT, base });
      expect(again.root).toEqual(root);
      expect(device.asked).toEqual([]);
    });
  });

  test.for([
    [3, 4],
    [4, 5],
    [1, 129 * 4],
    [128 * 4, 128 * 4 + 1],
    [603, 604],
    [7, 129 * 128 * 4 + 9],
  ])('a disk of %i blocks that grew to %i is as one of that size, and back', async ([a, b]) => {
    await withStore(async (store, writer) => {
      const small = someDisk(a!, 5);
      change(small, a! - 1, 50);
      const large = new MemoryDevice(b! * B);
      for (const [block, written] of small.written.entries()) {
        if (!written) continue;
        large.fill(block, block + 1, 1);
        large.bytes.set(small.bytes.subarray(block * B, (block + 1) * B), block * B);
      }
      change(large, b! - 1, 51);
      const [from, to] = [small, large].map((device) => ({
        device,
        full: captureDisk({ store, writer, device, objectBytes: OBJECT }),
      }));
      await writer.barrier();
      for (const [one, other] of [
        [from!, to!],
        [to!, from!],
      ] as const) {
        const { root } = await one.full;
        await writer.barrier();
        const base = { root, sizeBytes: one.device.info.sizeBytes, changed: [] as ByteRange[] };
        const { device } = other;
        const after = await captureDisk({ store, writer, device, objectBytes: OBJECT, base });
        expect(after.root).toEqual((await other.full).root);
      }
    });
  });

  test('any changes, in any number, give what a full reading gives', async () => {
    await withStore(async (store, writer) => {
      const random = simRandom(11);
      const device = someDisk(BLOCKS, 6);
      let { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
      for (let round = 0; round < 30; round += 1) {
        await writer.barrier();
        const changed: ByteRange[] = [];
        for (let block = random.below(200); block < BLOCKS; block += 1 + random.below(300)) {
          const end = Math.min(BLOCKS, block + 1 + random.below(round < 15 ? 3 : 200));
          if (random.below(3) === 0) device.punch(block, end);
          else for (let at = block; at < end; at += 1) change(device, at, random.below(50));
          changed.push({ at: block * B, length: (end - block) * B });
          block = end;
        }
        const base = { root, sizeBytes: device.info.sizeBytes, changed };
        ({ root } = await captureDisk({ store, writer, device, objectBytes: OBJECT, base }));
        const full = await captureDisk({ store, writer, device, objectBytes: OBJECT });
        expect(root).toEqual(full.root);
      }
      await writer.barrier();
      const again = await restored(store, root, device);
      expect(Buffer.compare(again.bytes, device.bytes)).toBe(0);
    });
  });
});

test('a restore over what is there writes only what differs', async () => {
  await withStore(async (store, writer) => {
    const device = someDisk(600, 8);
    const sizeBytes = device.info.sizeBytes;
    const one = await captureDisk({ store, writer, device, objectBytes: OBJECT });
    change(device, 9, 1);
    change(device, 599, 2);
    device.punch(64, 128);
    const two = await captureDisk({ store, writer, device, objectBytes: OBJECT });
    await writer.barrier();
    const target = await restored(store, one.root, device);
    target.asked.length = 0;
    const present = { root: one.root, sizeBytes };
    const where = { device: target, sizeBytes, objectBytes: OBJECT };
    const counts = await restoreDisk({ store, root: two.root, present, ...where });
    expect(Buffer.compare(target.bytes, device.bytes)).toBe(0);
    expect(counts.writtenBytes).toBe(2 * B);
    expect(target.asked.every(({ length }) => length <= 64 * B)).toBe(true);
  });
});

// A leaf of four blocks, a tree of one level more, and one of two more.
const SIZES = [3, 5, 600];
test.for(SIZES.flatMap((was) => SIZES.map((is) => [was, is] as const)))(
  'a restore over a disk of %i blocks, also of zeroes, brings one of %i',
  async ([was, is]) => {
    await withStore(async (store, writer) => {
      for (const [before, after] of [
        [new MemoryDevice(was * B), someDisk(is, 21)],
        [someDisk(was, 22), someDisk(is, 21)],
        [someDisk(was, 22), new MemoryDevice(is * B)],
      ] as const) {
        const captures = [before, after].map((device) =>
          captureDisk({ store, writer, device, objectBytes: OBJECT }),
        );
        const [one, two] = await Promise.all(captures);
        await writer.barrier();
        const device = new MemoryDevice(is * B);
        device.bytes.set(before.bytes.subarray(0, is * B));
        const present = { root: one!.root, sizeBytes: was * B };
        const source = { store, root: two!.root, sizeBytes: is * B, objectBytes: OBJECT, present };
        const counts = await restoreDisk({ ...source, device });
        expect(Buffer.compare(device.bytes, after.bytes)).toBe(0);
        expect(await planRestore(source)).toEqual(counts);
      }
    });
  },
);
