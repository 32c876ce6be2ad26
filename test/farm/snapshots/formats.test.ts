import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CodecName } from '../../../src/base/content.ts';
import { isFault } from '../../../src/base/errors.ts';
import {
  decodeIndex,
  decodeObjectHeader,
  decodePackHeader,
  decodeTrailer,
  encodePackHeader,
  encodeTrailer,
  type Trailer,
} from '../../../src/farm/snapshots/pack-format.ts';
import { openPack } from '../../../src/farm/snapshots/pack-open.ts';
import { decodeSnap, encodeSnap, type Snap } from '../../../src/farm/snapshots/snap-contents.ts';
import { encodeSnapLine, readSnapLog } from '../../../src/farm/snapshots/snap-log-format.ts';
import { parseStoreIdentity } from '../../../src/farm/snapshots/store-identity.ts';
import { decodeTrunk, encodeTrunk } from '../../../src/farm/snapshots/trunk-format.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import { SimDisk } from '../../../src/sim/sim-disk.ts';
import { golden } from '../../golden/golden.ts';
import { contents } from '../store.ts';
import { counting, DIRECTORY, emptyDisk, openStore, SHAPE, wallClock } from './store-world.ts';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const STORE = Uint8Array.from({ length: 16 }, (_, index) => index);

const snap: Snap = {
  log: 'user',
  epoch: 7,
  timeMs: 1_795_000_000_000,
  tag: 'nightly',
  nodes: [
    {
      nodeId: '10111213-1415-4617-9819-1a1b1c1d1e1f',
      version: '0.1.0',
      store: '/var/lib/sheep',
      nbd: ['127.0.0.1:10809', 'unix:/run/sheep.sock'],
    },
  ],
  disks: [
    {
      clusterId: '00010203-0405-4607-8809-0a0b0c0d0e0f',
      family: 41,
      vid: 42,
      parent: 0,
      name: 'demo',
      snapshot: 'mon',
      snapshotMs: 1_794_999_999_000,
      createdMs: 1_794_999_999_000,
      allow: ['default', 'psk:alice'],
      sizeBytes: 8 * 2 ** 30,
      objectBytes: 4 * 2 ** 20,
      root: Uint8Array.from({ length: 32 }, (_, index) => 255 - index),
    },
    {
      clusterId: '00010203-0405-4607-8809-0a0b0c0d0e0f',
      family: 41,
      vid: 43,
      parent: 42,
      name: 'demo',
      snapshot: '',
      snapshotMs: 1_795_000_000_000,
      createdMs: 1_794_999_000_000,
      allow: ['default', 'psk:alice'],
      sizeBytes: 2 ** 33,
      objectBytes: 2 ** 22,
      root: new Uint8Array(32),
    },
  ],
};

/** A store of two packs: three slices, one of them plain in any codec; and a trunk. */
async function packs(codec: CodecName): Promise<{ disk: SimDisk; data: string; tree: string }> {
  const disk = emptyDisk();
  const clock = wallClock(1_795_000_000_000);
  const create = { ...SHAPE, codec };
  await using store = await openStore({ disk, clock, create, random: counting() });
  await using writer = await beginWriting(store);
  for (const seed of [3, 1, 2]) {
    const slice = new Uint8Array(SHAPE.sliceBytes).fill(seed);
    // As random bytes are: no codec makes it shorter.
    if (seed === 2) for (let at = 0; at < slice.length; at += 1) slice[at] = (at * at * 7919) >>> 5;
    await writer.put('data', slice.subarray(0, 100));
  }
  await writer.put('trunk', encodeTrunk(0, new Uint8Array(64).fill(1))!);
  await writer.barrier();
  const paths = (await disk.list(`${DIRECTORY}/packs`)).map((name) => `${DIRECTORY}/packs/${name}`);
  const [data, tree] = paths;
  return { disk, data: data!, tree: tree! };
}

describe('each format is these bytes and no others', () => {
  test('of farm.json', async () => {
    const disk = emptyDisk();
    await using _store = await openStore({ disk, random: counting() });
    const made = await contents(disk, `${DIRECTORY}/farm.json`);
    const stored = golden('farm-v1', made);
    expect(text(made)).toBe(text(stored));
    const identity = parseStoreIdentity(text(stored), 'farm.json');
    expect(identity).toMatchObject({ hash: 'sha256', codec: 'zstd', sliceBytes: 4096 });
  });

  test('of a pack', async () => {
    const { disk, data, tree } = await packs('none');
    for (const [name, path] of [
      ['pack-data-v1', data],
      ['pack-tree-v1', tree],
    ] as const) {
      const made = await contents(disk, path);
      expect(made).toEqual(golden(name, made));
    }
  });

  test.for(['zstd', 'zlib'] as const)('of a pack with %s, as one was once made', async (codec) => {
    // What a codec makes of bytes may change with its version; what it makes of this must not.
    const { disk, data } = await packs(codec);
    const stored = golden(`pack-${codec}-v1`, await contents(disk, data));
    {
      await using file = await disk.open(data, { truncate: true, create: true });
      await file.write(0, stored);
    }
    await using store = await openStore({ disk });
    const { index } = store.packs;
    const sizes: number[] = [];
    for (let entry = 0; entry < index.count; entry += 1) {
      if (index.typeOf(entry) !== 'data') continue;
      const payload = await store.read(index.nameOf(entry), 'data');
      expect(payload).toHaveLength(100);
      sizes.push(index.storedBytesOf(entry));
    }
    expect(sizes.toSorted((a, b) => a - b)).toEqual([expect.any(Number), expect.any(Number), 100]);
    expect(Math.min(...sizes)).toBeLessThan(40);
  });

  test('of a trunk', () => {
    const names = new Uint8Array(5 * 32);
    names.fill(0x11, 0, 32).fill(0x33, 64, 96);
    const made = encodeTrunk(2, names)!;
    const stored = golden('trunk-v1', made);
    expect(made).toEqual(stored);
    expect(decodeTrunk(stored, 2, 5, 'x')).toEqual(names);
  });

  test('of a snap', () => {
    const made = encodeSnap(snap);
    const stored = golden('snap-v2', made);
    expect(text(made)).toBe(text(stored));
    expect(decodeSnap(stored, 'x')).toEqual(snap);
  });

  test('a snap of version 1 is refused by name, with both', () => {
    const old = golden('snap-v1', new Uint8Array(0));
    expect(() => decodeSnap(old, 'x')).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: expect.stringMatching(/version 1, .* version 2/),
      }),
    );
  });

  test('of a log of snaps', () => {
    const line = {
      kind: 'snap',
      epoch: 7,
      timeMs: 9,
      name: snap.disks[0]!.root,
      tag: 'é',
    } as const;
    const cancel = { ...line, kind: 'cancel' } as const;
    const made = Uint8Array.from(
      [line, cancel].flatMap((each) => [...encodeSnapLine(each, STORE)]),
    );
    const stored = golden('snap-log-v1', made);
    expect(made).toEqual(stored);
    expect(readSnapLog(stored, STORE, 'log').lines).toEqual([line, cancel]);
  });
});

describe('a later version is refused by name, with both', () => {
  const header = encodePackHeader({ kind: 'data', storeId: STORE, createdMs: 1 });
  const facts: Trailer = {
    ...{ kind: 'data', storeId: STORE, createdMs: 1 },
    ...{ count: 0, indexAt: 64, indexCrc: crc32(new Uint8Array(0)) },
  };
  const later = (bytes: Uint8Array) => {
    const view = new DataView(bytes.buffer);
    view.setUint32(8, 2);
    view.setUint32(60, crc32(bytes.subarray(0, 60)));
    return bytes;
  };
  const both = expect.objectContaining({
    code: 'ERR_VERSION',
    facts: expect.objectContaining({ found: 2, known: 1 }),
  });

  test('of header and trailer of a pack', () => {
    expect(() => decodePackHeader(later(header.slice()), 'p')).toThrow(both);
    expect(() => decodeTrailer(later(encodeTrailer(facts)), 128, 'p')).toThrow(both);
  });

  test('of farm.json, whatever else it says', () => {
    expect(() => parseStoreIdentity('{"formatVersion":2}', 'p')).toThrow(both);
  });

  test('a flipped bit of either is damage, and not a version', () => {
    for (const [bytes, decode] of [
      [header, (flipped: Uint8Array) => decodePackHeader(flipped, 'p')],
      [encodeTrailer(facts), (flipped: Uint8Array) => decodeTrailer(flipped, 128, 'p')],
    ] as const) {
      expect(() => decode(bytes)).not.toThrow();
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        const flipped = bytes.slice();
        flipped[bit >>> 3]! ^= 1 << (bit & 7);
        expect(() => decode(flipped)).toThrow(expect.objectContaining({ code: 'ERR_CORRUPT' }));
      }
    }
  });
});

describe('a snap is damaged', () => {
  const [parent, child] = snap.disks;
  test.for([
    ['that names a parent behind its child', [child, parent]],
    ['that names a parent which is not there', [child]],
    ['that names its own vid as its parent', [{ ...parent, parent: 42 }]],
    ['that names a vid twice', [parent, parent]],
  ] as const)('%s', ([, disks]) => {
    const bytes = encodeSnap({ ...snap, disks: disks as Snap['disks'] });
    expect(() => decodeSnap(bytes, 'x')).toThrow(expect.objectContaining({ code: 'ERR_CORRUPT' }));
  });
});

test('of a header of an object no bit is believed that was flipped', async () => {
  const { disk, data } = await packs('none');
  const bytes = (await contents(disk, data)).subarray(64, 64 + 56);
  expect(decodeObjectHeader(bytes)).toBeDefined();
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = bytes.slice();
    flipped[bit >>> 3]! ^= 1 << (bit & 7);
    expect(decodeObjectHeader(flipped)).toBeUndefined();
  }
});

describe('any bytes are decoded or refused by name', () => {
  const refusedByName = (act: () => unknown) => {
    try {
      act();
    } catch (error) {
      if (!isFault(error, 'ERR_CORRUPT') && !isFault(error, 'ERR_VERSION')) throw error;
    }
  };
  const anyBytes = fc.uint8Array({ maxLength: 200 });

  test('as a trunk, a snap, a log, an identity', () => {
    fc.assert(
      fc.property(anyBytes, fc.string(), (bytes, words) => {
        refusedByName(() => decodeTrunk(bytes, 0, 4, 'x'));
        refusedByName(() => decodeSnap(bytes, 'x'));
        refusedByName(() => decodeSnap(new TextEncoder().encode(words), 'x'));
        refusedByName(() => readSnapLog(bytes, STORE, 'x'));
        refusedByName(() => parseStoreIdentity(words, 'x'));
      }),
    );
  });

  test('as the words of a snap, whatever stands in them', () => {
    const anyJson = fc.record({
      version: fc.constant(2),
      log: fc.constantFrom('user', 'sys', 3),
      epoch: fc.oneof(fc.nat(), fc.jsonValue()),
      timeMs: fc.oneof(fc.nat(), fc.jsonValue()),
      tag: fc.oneof(fc.string(), fc.jsonValue()),
      nodes: fc.oneof(fc.array(fc.jsonValue()), fc.jsonValue()),
      disks: fc.oneof(fc.array(fc.jsonValue()), fc.jsonValue()),
    });
    fc.assert(
      fc.property(anyJson, (value) => {
        refusedByName(() => decodeSnap(new TextEncoder().encode(JSON.stringify(value)), 'x'));
      }),
    );
  });

  test('as an index, even if its checksum fits', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 96, maxLength: 96 }), (bytes) => {
        const trailer: Trailer = {
          ...{ kind: 'data', storeId: STORE, createdMs: 1, count: 2, indexAt: 5000 },
          indexCrc: crc32(bytes),
        };
        refusedByName(() => [...decodeIndex(bytes, trailer, 'x')]);
      }),
    );
  });

  test('as a pack behind a sound header', async () => {
    const header = encodePackHeader({ kind: 'data', storeId: STORE, createdMs: 1 });
    await fc.assert(
      fc.asyncProperty(anyBytes, async (bytes) => {
        const disk = new SimDisk({ directories: ['/d'] });
        await using file = await disk.open('/d/p', { create: true });
        await file.write(0, header);
        await file.write(64, bytes);
        const { entries, flaw } = await openPack(file, 'p');
        expect(entries).toEqual([]);
        expect(flaw).toBeDefined();
      }),
      { numRuns: 50 },
    );
  });
});
