import { describe, expect, test } from 'vitest';
import type { CodecName, HashName } from '../../../src/base/content.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import { content, emptyDisk, openStore, SHAPE } from './store-world.ts';

const SHAPES = (['sha256', 'sha1'] as const).flatMap((hash: HashName) =>
  (['zstd', 'zlib', 'none'] as const).map((codec: CodecName) => ({ ...SHAPE, hash, codec })),
);

describe.for(SHAPES)('a store of $hash and $codec', (create) => {
  test('gives back what was put, before and after it was opened anew', async () => {
    const disk = emptyDisk();
    const contents = Array.from({ length: 50 }, (_, seed) => content(seed));
    let names: Uint8Array[];
    {
      await using store = await openStore({ disk, create });
      await using writer = await beginWriting(store);
      names = await Promise.all(contents.map((payload) => writer.put('data', payload)));
      await writer.barrier();
      for (const [index, name] of names.entries()) {
        expect(await store.read(name, 'data')).toEqual(contents[index]);
      }
    }
    await using store = await openStore({ disk, create: { ...SHAPE, sliceBytes: 2 ** 20 } });
    expect(store.identity).toMatchObject(create);
    for (const [index, name] of names.entries()) {
      expect(await store.read(name, 'data')).toEqual(contents[index]);
    }
  });

  test('keeps the same content once, and slices of zeroes not at all', async () => {
    const disk = emptyDisk();
    await using store = await openStore({ disk, create });
    await using writer = await beginWriting(store);
    const bytes = new Uint8Array(4 * SHAPE.sliceBytes);
    bytes.set(content(1), 0);
    bytes.set(content(2), SHAPE.sliceBytes);
    bytes.set(content(1), 3 * SHAPE.sliceBytes);
    const first = await writer.putSlices(bytes.slice());
    expect(first).toMatchObject({ newSlices: 2, sharedSlices: 1 });
    expect(first.names.subarray(0, 32)).toEqual(first.names.subarray(96, 128));
    expect(first.names.subarray(64, 96)).toEqual(new Uint8Array(32));
    await writer.barrier();
    expect(await writer.putSlices(bytes.slice())).toMatchObject({ newSlices: 0, sharedSlices: 3 });
  });
});
