import { beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES as B } from '../../../src/base/units.ts';
import { checkStore } from '../../../src/farm/snapshots/check.ts';
import { collect } from '../../../src/farm/snapshots/collect.ts';
import { encodeSnap } from '../../../src/farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../../src/farm/snapshots/store.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../../src/sim/sim-disk.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import type { MemoryDevice } from '../../app-unit/memory-device.ts';
import { all, backUp, bytesOf, change, someDisk } from './backups.ts';
import { DIRECTORY, emptyDisk, openStore } from './store-world.ts';

const BLOCKS = 60;
const PACKS = `${DIRECTORY}/packs`;

let sound: SimDisk;
let device: MemoryDevice;
let snaps: SnapEntry[];
let states: Buffer[];

beforeAll(async () => {
  sound = emptyDisk();
  await using store = await openStore({ disk: sound });
  await using writer = await beginWriting(store);
  device = someDisk(BLOCKS, 1);
  [snaps, states] = [[], []];
  for (const round of [0, 1]) {
    change(device, 3 + round, round);
    states.push(Buffer.from(device.bytes));
    snaps.push(await backUp(writer, device, `t${round}`, { timeMs: round, name: 'web' }));
  }
});

async function readAll(disk: SimDisk, path: string): Promise<Uint8Array> {
  await using file = await disk.open(path);
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  return bytes;
}

async function replace(disk: SimDisk, path: string, bytes: Uint8Array): Promise<void> {
  await using file = await disk.open(path, { create: true, truncate: true });
  await file.write(0, bytes);
}

async function packsOf(disk: SimDisk): Promise<string[]> {
  return (await disk.list(PACKS)).map((name) => `${PACKS}/${name}`);
}

/**
 * Nothing wrong is ever given out: a snap comes back whole, or is refused with what is lost; and
 * what a check finds is just what cannot be had.
 */
async function judge(store: SnapshotStore): Promise<{ lost: number[]; messages: string[] }> {
  const lost: number[] = [];
  for (const [index, snap] of snaps.entries()) {
    try {
      expect(Buffer.compare(await bytesOf(store, snap), states[index]!)).toBe(0);
    } catch (error) {
      expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_(CORRUPT|MISSING)$/) });
      lost.push(index);
    }
  }
  const findings = await all(checkStore(store));
  const named = new Set(findings.flatMap(({ snap }) => (snap ? [snap.id] : [])));
  expect([...named].sort()).toEqual(lost.map((index) => snaps[index]!.id).sort());
  return { lost, messages: findings.map(({ message }) => message) };
}

describe('a pack', () => {
  test('that is missing: the check names what is lost, by disk and bytes', async () => {
    for (const path of await packsOf(sound)) {
      const disk = sound.kill();
      await disk.remove(path);
      await using store = await openStore({ disk });
      const { lost, messages } = await judge(store);
      expect(lost.length).toBeGreaterThan(0);
      for (const message of messages) {
        expect(message).toMatch(
          /^backup [0-9a-f]{8} \(t[01]\): (bytes \d+ to \d+ of web@t[01]|obj)/,
        );
      }
    }
  });

  test('that is cut off anywhere gives what is whole in it', async () => {
    const random = simRandom(2);
    for (const path of await packsOf(sound)) {
      const bytes = await readAll(sound, path);
      for (const length of [0, 63, 64, bytes.length - 1, random.below(bytes.length)]) {
        const disk = sound.kill();
        await replace(disk, path, bytes.subarray(0, length));
        await using store = await openStore({ disk });
        const { lost, messages } = await judge(store);
        expect(messages.some((message) => message.startsWith(path))).toBe(true);
        // Only the trailer is missing: every object is found by itself.
        if (length === bytes.length - 1) expect(lost).toEqual([]);
      }
    }
  });

  test('with any bit turned over gives no wrong byte', async () => {
    const random = simRandom(3);
    let [harmless, harmful] = [0, 0];
    for (const path of await packsOf(sound)) {
      const bytes = await readAll(sound, path);
      for (let round = 0; round < 8; round += 1) {
        const disk = sound.kill();
        disk.flipBit(path, random.below(bytes.length), random.below(8));
        await using store = await openStore({ disk });
        const { lost } = await judge(store);
        if (lost.length > 0) harmful += 1;
        else harmless += 1;
      }
    }
    expect(Math.min(harmless, harmful)).toBeGreaterThan(0);
  });

  test('that stands in place of another gives nothing wrong', async () => {
    const [one, two] = await packsOf(sound);
    const disk = sound.kill();
    const bytes = await readAll(disk, one!);
    await replace(disk, one!, await readAll(disk, two!));
    await using store = await openStore({ disk });
    expect((await judge(store)).lost.length).toBeGreaterThan(0);
    await replace(disk, two!, bytes);
    await using swapped = await openStore({ disk });
    // What is inside says what it is, whatever the file is called.
    expect((await judge(swapped)).lost).toEqual([]);
  });

  test('of another store is left alone, and told of', async () => {
    const other = emptyDisk();
    {
      await using store = await openStore({ disk: other, random: simRandom(99) });
      await using writer = await beginWriting(store);
      await backUp(writer, someDisk(20, 5), 'foreign');
    }
    const [foreign] = await packsOf(other);
    const disk = sound.kill();
    const path = `${PACKS}/00000000000000ff.pack`;
    await replace(disk, path, await readAll(other, foreign!));
    await replace(disk, `${PACKS}/notes.txt`, new Uint8Array(5));
    await using store = await openStore({ disk });
    const { lost, messages } = await judge(store);
    expect(lost).toEqual([]);
    expect(messages.toSorted()).toEqual([
      `${path}: it is of another store`,
      `${PACKS}/notes.txt: it is no pack`,
    ]);
    await using writer = await beginWriting(store);
    await collect(writer, { graceMs: 0 });
    expect(await disk.exists(path)).toBe(true);
  });

  test('of a later version is refused by its version, and left alone', async () => {
    const [path] = await packsOf(sound);
    const bytes = await readAll(sound, path!);
    const { crc32 } = await import('node:zlib');
    for (const at of [0, bytes.length - 64]) {
      const view = new DataView(bytes.buffer, at);
      view.setUint32(8, 2);
      view.setUint32(60, crc32(bytes.subarray(at, at + 60)));
    }
    const disk = sound.kill();
    await replace(disk, path!, bytes);
    await using store = await openStore({ disk });
    const { messages } = await judge(store);
    expect(messages[0]).toContain('is of version 2, this program knows version 1');
  });

  test('that is damaged and may hold what is missing is not collected', async () => {
    for (const path of await packsOf(sound)) {
      const disk = sound.kill();
      const bytes = await readAll(disk, path);
      // Not one object can be found in it, but its header tells whose it is.
      await replace(disk, path, bytes.fill(0, 64));
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      await collect(writer, { graceMs: 0 }).catch((error) => {
        expect(error.code).toBe('ERR_MISSING');
      });
      expect(await disk.exists(path)).toBe(true);
    }
  });
});

describe('a trunk', () => {
  /** A snap of a trunk that says what `names` say. */
  async function snapOf(root: Uint8Array, disk: SimDisk): Promise<SnapEntry> {
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const who = { clusterId: 'c', family: 1, vid: 1, parent: 0, name: 'odd', snapshot: 's' };
    const facts = { ...who, snapshotMs: 1, createdMs: 1, allow: [] };
    const sizes = { sizeBytes: 4 * B, objectBytes: 4 * B };
    const disks = [{ ...facts, ...sizes, root }];
    return await writer.appendSnap('user', { epoch: 0, timeMs: 9, tag: 'odd', nodes: [], disks });
  }

  test('that names what is not there is told with its disk, and kept from the others', async () => {
    const disk = sound.kill();
    const payload = new Uint8Array(8 + 32).fill(0x77, 8);
    new DataView(payload.buffer).setUint16(0, 1);
    new DataView(payload.buffer).setUint32(4, 1);
    let root: Uint8Array;
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      root = await writer.put('trunk', payload);
      await writer.barrier();
    }
    const snap = await snapOf(root, disk);
    await using store = await openStore({ disk });
    expect(await all(checkStore(store))).toEqual([
      expect.objectContaining({
        ...{ kind: 'disk', object: '77'.repeat(32), at: 0, length: B },
        message: expect.stringContaining(`bytes 0 to ${B - 1} of odd@s are lost`),
      }),
    ]);
    await expect(bytesOf(store, snap)).rejects.toMatchObject({
      code: 'ERR_MISSING',
      facts: { at: 0, length: B },
    });
  });

  test.for([
    ['is content of another type', 'data', new Uint8Array(40).fill(1)],
    ['is cut off', 'trunk', Uint8Array.of(0, 1, 0, 0)],
    ['is of a level that cannot be there', 'trunk', Uint8Array.of(0, 1, 0, 3, 0, 0, 0, 0)],
    ['is of a later version', 'trunk', Uint8Array.of(0, 2, 0, 0, 0, 0, 0, 0)],
    ['has another length than it says', 'trunk', Uint8Array.of(0, 1, 0, 0, 0, 0, 0, 1)],
    ['names more than its object has', 'trunk', longTrunk()],
  ] as const)('that %s is refused', async ([, type, payload]) => {
    const disk = sound.kill();
    let root: Uint8Array;
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      root = await writer.put(type, payload);
      await writer.barrier();
    }
    const snap = await snapOf(root, disk);
    await using store = await openStore({ disk });
    await expect(bytesOf(store, snap)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(CORRUPT|VERSION)$/),
    });
    const findings = await all(checkStore(store));
    expect(findings).toMatchObject([{ kind: 'disk', at: 0, length: 4 * B }]);
  });
});

function longTrunk(): Uint8Array {
  const payload = new Uint8Array(8 + 5 * 32).fill(1, 8);
  new DataView(payload.buffer).setUint16(0, 1);
  new DataView(payload.buffer).setUint32(4, 5);
  return payload;
}

describe('a snap object', () => {
  test.for([
    ['is not JSON', 'not JSON'],
    ['is of a later version', '{"version":2}'],
    ['says too little', '{"version":1,"log":"user","epoch":0,"timeMs":1,"tag":""}'],
    ['is of no disk', '{"version":1,"log":"user","epoch":0,"timeMs":1,"tag":"","disks":[{}]}'],
  ] as const)('that %s is told, and the others come back', async ([, text]) => {
    const disk = sound.kill();
    await using store = await openStore({ disk });
    await using writer = await beginWriting(store);
    const name = await writer.put('snap', new TextEncoder().encode(text));
    await writer.barrier();
    await store.logs.user.append({ kind: 'snap', epoch: 0, timeMs: 9, name, tag: 'odd' });
    await expect(store.readSnap(name)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(CORRUPT|VERSION)$/),
    });
    expect(await all(checkStore(store))).toMatchObject([{ kind: 'snap' }]);
    expect(Buffer.compare(await bytesOf(store, snaps[1]!), states[1]!)).toBe(0);
  });

  test('that is named and not there is told', async () => {
    const disk = sound.kill();
    await using store = await openStore({ disk });
    const name = new Uint8Array(32).fill(5);
    await store.logs.user.append({ kind: 'snap', epoch: 0, timeMs: 9, name, tag: 'gone' });
    expect(await all(checkStore(store))).toMatchObject([{ kind: 'snap', object: '05'.repeat(32) }]);
  });
});

test('a sample reads a part of the slices, and all trees', async () => {
  const disk = sound.kill();
  await using store = await openStore({ disk });
  let [read, total] = [0, 0];
  const progress = (done: { provenBytes: number; totalBytes: number }) => {
    [read, total] = [done.provenBytes, done.totalBytes];
  };
  await all(checkStore(store, { progress }));
  const whole = total;
  expect(read).toBe(whole);
  await all(checkStore(store, { samplePercent: 30, progress }));
  expect(total).toBeGreaterThan(0);
  expect(total).toBeLessThan(whole * 0.7);
});

test('the words of a snap are bounded by nothing that it says', () => {
  const words = { log: 'user', epoch: 1, timeMs: 2, tag: 'a "b" \n' } as const;
  const bytes = encodeSnap({ ...words, nodes: [], disks: [] });
  expect(new TextDecoder().decode(bytes)).toBe(
    '{"version":2,"log":"user","epoch":1,"timeMs":2,"tag":"a \\"b\\" \\n","nodes":[],"disks":[]}',
  );
});
