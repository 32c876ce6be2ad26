import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES as B } from '../../../src/base/units.ts';
import { checkStore } from '../../../src/farm/snapshots/check.ts';
import { collect, planCollection } from '../../../src/farm/snapshots/collect.ts';
import type { SnapEntry } from '../../../src/farm/snapshots/store.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../../src/sim/sim-disk.ts';
import { all, backUp, bytesOf, change, someDisk } from './backups.ts';
import { DIRECTORY, emptyDisk, openStore, SMALL, wallClock } from './store-world.ts';

const NOW = { graceMs: 0 };

async function packBytes(disk: SimDisk): Promise<number> {
  let bytes = 0;
  for (const name of await disk.list(`${DIRECTORY}/packs`)) {
    await using file = await disk.open(`${DIRECTORY}/packs/${name}`);
    bytes += await file.size();
  }
  return bytes;
}

describe('a collection', () => {
  test('frees what only a cancelled snap needed, and nothing else', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const device = someDisk(300, 1);
    const states: Uint8Array[] = [];
    const snaps = [];
    for (let round = 0; round < 4; round += 1) {
      for (let block = 0; block < 300; block += 7) change(device, block, round * 1000 + block);
      states.push(device.bytes.slice());
      snaps.push(await backUp(writer, device, `t${round}`, { timeMs: round }));
    }
    await writer.cancelSnap(snaps[1]!);
    await writer.cancelSnap(snaps[2]!);
    const before = await packBytes(disk);
    const planned = await planCollection(store, NOW);
    const done = await collect(writer, NOW);
    expect(done).toEqual(planned);
    expect(planned.freedBytes).toBeGreaterThan(40 * B);
    const after = await packBytes(disk);
    // But for header and trailer of the packs that were written anew.
    const frames = planned.sparse.length * 128;
    expect(Math.abs(before - after - planned.freedBytes)).toBeLessThanOrEqual(frames);
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['t0', 't3']);
    await using again = await openStore({ disk });
    expect(Buffer.compare(await bytesOf(again, snaps[0]!), states[0]!)).toBe(0);
    expect(Buffer.compare(await bytesOf(again, snaps[3]!), states[3]!)).toBe(0);
    expect(await all(checkStore(again))).toEqual([]);
    expect(again.has(snaps[1]!.name)).toBe(false);
  });

  test('of a store without snaps leaves an empty one, with empty logs', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const snap = await backUp(writer, someDisk(300, 2), 'only');
    await writer.cancelSnap(snap);
    const { freedBytes, keptBytes, liveBytes } = await collect(writer, NOW);
    expect([keptBytes, liveBytes]).toEqual([0, 0]);
    expect(freedBytes).toBeGreaterThan(50 * B);
    expect(await disk.list(`${DIRECTORY}/packs`)).toEqual([]);
    await using log = await disk.open(`${DIRECTORY}/user_snap`);
    expect(await log.size()).toBe(0);
  });

  test('a plan with snaps left out is what pruning them will do', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const device = someDisk(200, 3);
    const one = await backUp(writer, device, 'one');
    for (let block = 0; block < 100; block += 1) change(device, block, block);
    await backUp(writer, device, 'two');
    const planned = await planCollection(store, { ...NOW, without: [one] });
    await writer.cancelSnap(one);
    expect(planned.freedBytes).toBeGreaterThan(0);
    expect(await collect(writer, NOW)).toEqual(planned);
  });

  test('leaves packs alone that are younger than the grace', async () => {
    const disk = emptyDisk();
    const clock = wallClock();
    await using store = await openStore({ disk, clock });
    await using writer = await beginWriting(store);
    await writer.cancelSnap(await backUp(writer, someDisk(100, 4), 'gone'));
    clock.wall += 59_000;
    expect(await collect(writer, { graceMs: 60_000 })).toMatchObject({ freedBytes: 0 });
    clock.wall += 1_000;
    expect((await collect(writer, { graceMs: 60_000 })).freedBytes).toBeGreaterThan(0);
    expect(await disk.list(`${DIRECTORY}/packs`)).toEqual([]);
  });

  test('puts small packs together once there are many', async () => {
    const disk = emptyDisk();
    const limits = { ...SMALL, packBytes: 1 << 20, packObjects: 1 << 14, smallPacksMax: 5 };
    await using store = await openStore({ disk, limits });
    await using writer = await beginWriting(store);
    const device = someDisk(40, 5);
    const states = [];
    for (let round = 0; round < 6; round += 1) {
      change(device, round, round);
      const snap = await backUp(writer, device, `${round}`, { timeMs: round });
      states.push({ snap, bytes: device.bytes.slice() });
    }
    expect(await disk.list(`${DIRECTORY}/packs`)).toHaveLength(12);
    await collect(writer, NOW);
    expect(await disk.list(`${DIRECTORY}/packs`)).toHaveLength(2);
    expect((await collect(writer, NOW)).sparse).toEqual([]);
    for (const { snap, bytes } of states)
      expect(Buffer.compare(await bytesOf(store, snap), bytes)).toBe(0);
  });

  test('frees nothing while it cannot know what a snap needs', async () => {
    const disk = emptyDisk();
    let bad: SnapEntry;
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      const device = someDisk(300, 6);
      bad = await backUp(writer, device, 'bad', { timeMs: 1 });
      change(device, 5, 1);
      await writer.cancelSnap(await backUp(writer, device, 'gone', { timeMs: 2 }));
      const { root } = (await store.readSnap(bad.name)).disks[0]!;
      const { pack, offset } = store.packs.index.at(store.packs.index.find(root));
      disk.flipBit(store.packs.pathOf(store.packs.get(pack)!.id), offset + 70, 3);
    }
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const before = await disk.list(`${DIRECTORY}/packs`);
    await expect(collect(writer, NOW)).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      facts: { disk: 'demo', snap: bad.id },
    });
    expect(await disk.list(`${DIRECTORY}/packs`)).toEqual(before);
    await writer.cancelSnap(bad);
    await collect(writer, NOW);
    expect(await disk.list(`${DIRECTORY}/packs`)).toEqual([]);
  });

  test('keeps the sound one of two copies, and a damaged one where there is no other', async () => {
    const disk = emptyDisk();
    const device = someDisk(60, 7);
    let snap: SnapEntry;
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      snap = await backUp(writer, device, 'kept');
      // As a collection leaves it that was stopped: every object a second time.
      const { count } = store.packs.index;
      for (let entry = 0; entry < count; entry += 1) await writer.copy(entry);
      await writer.barrier();
    }
    let twice = 0;
    {
      await using store = await openStore({ disk });
      twice = store.packs.index.count / 2;
      // Of each pair the copy that is found first is damaged.
      for (let entry = 0; entry < store.packs.index.count; entry += 1) {
        const first = store.packs.index.find(store.packs.index.nameOf(entry));
        if (first !== entry || store.packs.index.typeOf(entry) !== 'data') continue;
        const { pack, offset, storedBytes } = store.packs.index.at(entry);
        const path = store.packs.pathOf(store.packs.get(pack)!.id);
        disk.flipBit(path, offset + 56 + (storedBytes >>> 1), 0);
      }
    }
    await using store = await openStore({ disk });
    expect(Buffer.compare(await bytesOf(store, snap), device.bytes)).toBe(0);
    {
      await using writer = await beginWriting(store);
      await collect(writer, NOW);
      await collect(writer, NOW);
    }
    await using again = await openStore({ disk });
    expect(Buffer.compare(await bytesOf(again, snap), device.bytes)).toBe(0);
    expect(again.packs.index.count).toBeLessThan(twice * 2);
  });
});
