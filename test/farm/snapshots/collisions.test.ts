import { expect, test } from 'vitest';
import { contentWorkBy, nameContent } from '../../../src/base/content.ts';
import { checkStore } from '../../../src/farm/snapshots/check.ts';
import { collect } from '../../../src/farm/snapshots/collect.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import { all, backUp, bytesOf, someDisk } from './backups.ts';
import { content, emptyDisk, openStore, SHAPE } from './store-world.ts';

const create = { ...SHAPE, hash: 'sha1' } as const;

/** SHA-1 as a forger has it: the first byte of a content decides, so that there are 256 names. */
const forged = contentWorkBy((hash, type, payload) =>
  nameContent(hash, type, type === 'data' ? payload.subarray(0, 1) : payload),
);

test('contents whose names collide are both kept, under names that differ behind the hash', async () => {
  const disk = emptyDisk();
  const same = (seed: number) => content(seed).fill(9, 0, 1);
  let names: Uint8Array[];
  {
    await using store = await openStore({ disk, create, work: forged });
    await using writer = await beginWriting(store);
    // At once, one after the other, and after it was made stable.
    names = await Promise.all([1, 2, 3].map((seed) => writer.put('data', same(seed))));
    names.push(await writer.put('data', same(4)));
    await writer.barrier();
    names.push(await writer.put('data', same(5)));
    names.push(await writer.put('data', same(2)));
    await writer.barrier();
  }
  expect(new Set(names.map((name) => Buffer.from(name).toString('hex'))).size).toBe(5);
  expect(new Set(names.map((name) => Buffer.from(name.subarray(0, 20)).toString('hex'))).size).toBe(
    1,
  );
  await using store = await openStore({ disk, work: forged });
  for (const [place, seed] of [1, 2, 3, 4, 5, 2].entries()) {
    expect(await store.read(names[place]!, 'data')).toEqual(same(seed));
  }
});

test('slices of one batch that collide are each found again', async () => {
  const disk = emptyDisk();
  await using store = await openStore({ disk, create, work: forged });
  await using writer = await beginWriting(store);
  const contents = [1, 2, 1, 3, 2].map((seed) => content(seed).fill(9, 0, 1));
  const stored = await writer.putSlices(Uint8Array.from(contents.flatMap((each) => [...each])));
  expect(stored).toMatchObject({ newSlices: 3, sharedSlices: 2 });
  await writer.barrier();
  for (const [place, payload] of contents.entries()) {
    const name = stored.names.subarray(place * 32, (place + 1) * 32);
    expect(await store.read(name, 'data')).toEqual(payload);
  }
});

test('disks full of collisions come back, are checked and collected as any others', async () => {
  const disk = emptyDisk();
  await using store = await openStore({ disk, create, work: forged });
  await using writer = await beginWriting(store);
  const one = someDisk(120, 1);
  const two = someDisk(120, 2);
  const first = await backUp(writer, one, 'one', { timeMs: 1 });
  const second = await backUp(writer, two, 'two', { timeMs: 2 });
  expect(Buffer.compare(await bytesOf(store, first), one.bytes)).toBe(0);
  await writer.cancelSnap(first);
  await collect(writer, { graceMs: 0 });
  expect(Buffer.compare(await bytesOf(store, second), two.bytes)).toBe(0);
  expect(await all(checkStore(store))).toEqual([]);
});

test('with sha256 what is there is not read again to be shared', async () => {
  const disk = emptyDisk();
  await using store = await openStore({ disk });
  await using writer = await beginWriting(store);
  const name = await writer.put('data', content(1));
  await writer.barrier();
  disk.injectFaults((operation, path) => {
    if (operation === 'read' && path.includes('/packs/')) throw new Error('nobody reads');
    return undefined;
  });
  expect(await writer.put('data', content(1))).toEqual(name);
});

test('under sha1 a damaged copy is not shared: the content is stored once more', async () => {
  const disk = emptyDisk();
  await using store = await openStore({ disk, create });
  await using writer = await beginWriting(store);
  const name = await writer.put('data', content(1));
  await writer.barrier();
  const { pack, offset } = store.packs.index.at(store.packs.index.find(name));
  disk.flipBit(store.packs.pathOf(store.packs.get(pack)!.id), offset + 60, 1);
  const again = await writer.put('data', content(1));
  await writer.barrier();
  expect(again).not.toEqual(name);
  expect(await store.read(again, 'data')).toEqual(content(1));
});
