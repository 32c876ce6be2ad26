import { describe, expect, test } from 'vitest';
import { SheepError } from '../../../src/base/errors.ts';
import { BLOCK_BYTES as B, KiB } from '../../../src/base/units.ts';
import { captureDisk } from '../../../src/farm/snapshots/capture.ts';
import { checkStore } from '../../../src/farm/snapshots/check.ts';
import { collect } from '../../../src/farm/snapshots/collect.ts';
import { restoreDisk } from '../../../src/farm/snapshots/restore.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import { SimDisk } from '../../../src/sim/sim-disk.ts';
import { all, backUp, bytesOf, change, OBJECT, someDisk } from './backups.ts';
import { content, DIRECTORY, emptyDisk, openStore, SHAPE } from './store-world.ts';

describe('a disk that fills up in the middle of a backup', () => {
  test.for([40, 80, 120, 200])(
    'with %i KiB: the backup fails as such, its space is free again, the ones before are whole',
    async (spareKiB) => {
      const totalBytes = 200 * KiB + spareKiB * KiB;
      const disk = new SimDisk({ directories: ['/backups'], totalBytes });
      await using store = await openStore({ disk });
      const device = someDisk(40, 1);
      let first: Awaited<ReturnType<typeof backUp>>;
      {
        await using writer = await beginWriting(store);
        first = await backUp(writer, device, 'first', { timeMs: 1 });
      }
      const before = await disk.space('/');
      const large = someDisk(2000, 2);
      {
        await using writer = await beginWriting(store);
        await expect(backUp(writer, large, 'large')).rejects.toMatchObject({
          code: 'ERR_NO_SPACE',
        });
        // Whoever goes on with it is refused as well: some of it is not there.
        await expect(writer.put('data', content(1))).rejects.toThrow();
        const snap = { epoch: 0, timeMs: 5, tag: 'never', nodes: [], disks: [] };
        await expect(writer.appendSnap('user', snap)).rejects.toThrow();
      }
      const names = await disk.list(`${DIRECTORY}/packs`);
      expect(names.filter((name) => name.endsWith('.draft'))).toEqual([]);
      expect(store.snaps().map(({ tag }) => tag)).toEqual(['first']);
      await using again = await openStore({ disk });
      expect(Buffer.compare(await bytesOf(again, first), device.bytes)).toBe(0);
      // What was finished of it is garbage, and goes.
      await using writer = await beginWriting(again);
      await collect(writer, { graceMs: 0 });
      const after = await disk.space('/');
      expect(after.freeBytes).toBeGreaterThanOrEqual(before.freeBytes - 4 * B);
      expect(await all(checkStore(again))).toEqual([]);
    },
  );

  test('in the middle of a collection frees nothing and loses nothing', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    const device = someDisk(200, 3);
    const bytes = Buffer.from(device.bytes);
    let kept: Awaited<ReturnType<typeof backUp>>;
    {
      await using writer = await beginWriting(store);
      kept = await backUp(writer, device, 'kept', { timeMs: 1 });
      for (let block = 0; block < 200; block += 2) change(device, block, block);
      const gone = await backUp(writer, device, 'gone', { timeMs: 2 });
      await writer.cancelSnap(gone);
    }
    const packs = await disk.list(`${DIRECTORY}/packs`);
    {
      await using writer = await beginWriting(store);
      disk.injectFaults((operation, path) =>
        operation === 'write' && path.includes('/packs/')
          ? new SheepError('ERR_NO_SPACE', 'the disk is full')
          : undefined,
      );
      // Only what must be written anew needs space; without it nothing is removed.
      await collect(writer, { graceMs: 0 }).catch((error) => {
        expect(error).toMatchObject({ code: 'ERR_NO_SPACE' });
      });
    }
    disk.injectFaults(() => undefined);
    expect(Buffer.compare(await bytesOf(store, kept), bytes)).toBe(0);
    await using writer = await beginWriting(store);
    await collect(writer, { graceMs: 0 });
    expect((await disk.list(`${DIRECTORY}/packs`)).length).toBeLessThan(packs.length);
    await using again = await openStore({ disk });
    expect(Buffer.compare(await bytesOf(again, kept), bytes)).toBe(0);
  });
});

test('a store opened before a collection of another program reads on after it', async () => {
  const disk = emptyDisk();
  await using reader = await openStore({ disk });
  await using store = await openStore({ disk });
  await using writer = await beginWriting(store);
  const device = someDisk(100, 4);
  const kept = await backUp(writer, device, 'kept', { timeMs: 1 });
  const bytes = Buffer.from(device.bytes);
  await reader.refresh();
  expect(Buffer.compare(await bytesOf(reader, kept), bytes)).toBe(0);
  for (let block = 0; block < 100; block += 1) change(device, block, block);
  const gone = await backUp(writer, device, 'gone', { timeMs: 2 });
  await writer.cancelSnap(kept);
  await writer.cancelSnap(gone);
  const again = await backUp(writer, someDisk(100, 4), 'kept again', { timeMs: 3 });
  await collect(writer, { graceMs: 0 });
  // The reader still knows the packs of before.
  expect(Buffer.compare(await bytesOf(reader, again), bytes)).toBe(0);
});

describe('a device that fails', () => {
  const failing = new SheepError('ERR_IO', 'the disk does not answer');

  test('while it is read ends the backup with its error, and nothing is half there', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    {
      await using writer = await beginWriting(store);
      const device = someDisk(300, 5);
      let reads = 0;
      device.before = ({ name }) => {
        reads += name === 'read' ? 1 : 0;
        if (reads > 20) throw failing;
      };
      await expect(backUp(writer, device, 'bad')).rejects.toBe(failing);
    }
    await using writer = await beginWriting(store);
    const device = someDisk(300, 5);
    const snap = await backUp(writer, device, 'good');
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['good']);
    expect(Buffer.compare(await bytesOf(store, snap), device.bytes)).toBe(0);
  });

  test('while it is written ends the restore with its error, after all that was under way', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const device = someDisk(300, 6);
    const { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
    await writer.barrier();
    const target = someDisk(300, 7);
    let [begun, ended] = [0, 0];
    target.before = async () => {
      begun += 1;
      await Promise.resolve();
      ended += 1;
      if (begun > 10) throw failing;
    };
    const sizeBytes = device.info.sizeBytes;
    const options = { store, root, device: target, sizeBytes, objectBytes: OBJECT };
    await expect(restoreDisk(options)).rejects.toBe(failing);
    expect(ended).toBe(begun);
  });

  test('an abort ends a backup and a restore with its reason', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const device = someDisk(300, 8);
    const stop = new AbortController();
    const reason = new Error('enough');
    const progress = () => stop.abort(reason);
    const { signal } = stop;
    const capture = { store, writer, device, objectBytes: OBJECT, signal, progress };
    await expect(captureDisk(capture)).rejects.toBe(reason);
  });
});

describe('the folder of a store', () => {
  test('that does not exist, or is empty, is no store until one is made', async () => {
    const disk = emptyDisk();
    const { openSnapshotStore } = await import('../../../src/farm/snapshots/store.ts');
    const made = await openStore({ disk, directory: '/backups/made' });
    const { create: _create, ...options } = made.options;
    await expect(
      openSnapshotStore({ ...options, directory: '/backups/none' }),
    ).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    expect(await disk.exists('/backups/none')).toBe(false);
  });

  test('that holds something else is refused by what it holds, and left as it is', async () => {
    const disk = emptyDisk();
    await disk.makeDirectory(`${DIRECTORY}/photos`);
    await expect(openStore({ disk })).rejects.toMatchObject({
      code: 'ERR_BAD_INPUT',
      message: expect.stringContaining('it holds photos'),
    });
    expect(await disk.list(DIRECTORY)).toEqual(['photos']);
  });

  test('that lost its identity is not taken for an empty one', async () => {
    const disk = emptyDisk();
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      await backUp(writer, someDisk(20, 1), 'one');
    }
    await disk.remove(`${DIRECTORY}/farm.json`);
    await expect(openStore({ disk })).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining('no farm.json'),
    });
  });

  test.for([3000, 2 ** 21, 100])('slices of %i bytes are refused', async (sliceBytes) => {
    const disk = emptyDisk();
    await expect(openStore({ disk, create: { ...SHAPE, sliceBytes } })).rejects.toMatchObject({
      code: 'ERR_BAD_INPUT',
    });
  });
});
