import { describe, expect, test } from 'vitest';
import { KIND } from '../../src/base/ids.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { leafName } from '../../src/vdi/inode-format.ts';
import { makeVolume, openVolume } from '../../src/vdi/open-volume.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import { sweep } from '../../src/vdi/sweep.ts';
import { blocks, codeOf, DIRECTORY, nameOf, openStore, PLAIN, SimStore } from '../farm/store.ts';
import { hooked, ROOMY_LIMITS, recordOf, VID } from './stores.ts';

const record = recordOf();
const PIECE = { durable: false };

/** Removes a VDI that has no family. */
function removeVolume(
  parts: { store: ObjectStore; record: VolumeRecord },
  call: { signal?: AbortSignal } = {},
): Promise<boolean> {
  return sweep({ ...parts, family: [{ ...parts.record, state: 'deleting' }] }, call);
}

/** Every object file of a store. */
async function objects(disk: Disk): Promise<string[]> {
  const found: string[] = [];
  for (const folder of await disk.list(`${DIRECTORY}/obj`)) {
    found.push(...(await disk.list(`${DIRECTORY}/obj/${folder}`)));
  }
  return found.sort();
}

/** A VDI with a few objects, some of them freed again. */
async function used(store: ObjectStore): Promise<void> {
  await makeVolume({ store, record });
  const volume = await openVolume({ store, record });
  for (const index of [0, 1, 2, 5, 9]) {
    await volume.write(index * record.objectBytes, blocks(2, index + 1), PIECE);
  }
  await volume.trim(record.objectBytes, record.objectBytes, PIECE);
  await volume.flush();
}

describe('removing a VDI', () => {
  test('leaves nothing of it, and everything of others', async () => {
    const { farm, disk } = await SimStore.open();
    await used(farm);
    const other = recordOf({ vid: VID + 1, family: VID + 1 });
    await makeVolume({ store: farm, record: other });
    const before = await objects(disk);
    await removeVolume({ store: farm, record });
    const left = await objects(disk);
    expect(left).toEqual(before.filter((oid) => oid.startsWith('100000006')));
    expect(left).toHaveLength(1);
    await openVolume({ store: farm, record: other });
    expect(await codeOf(() => openVolume({ store: farm, record }))).toBe('ERR_MISSING');
  });

  test('can be done again, and of what was never there', async () => {
    const { farm, disk } = await SimStore.open();
    await removeVolume({ store: farm, record });
    await used(farm);
    await removeVolume({ store: farm, record });
    await removeVolume({ store: farm, record });
    expect(await objects(disk)).toEqual([]);
  });

  test('can be cut short before any of its steps, and done again', async () => {
    for (let steps = 0; ; steps += 1) {
      const store = await SimStore.open();
      await used(store.farm);
      let left = steps;
      const cut = hooked(store.farm, () => {
        left -= 1;
        if (left < 0) throw new Error('cut short');
      });
      const done = (await codeOf(() => removeVolume({ store: cut, record }))) === 'none';
      await store.kill();
      await removeVolume({ store: store.farm, record });
      expect(await objects(store.disk)).toEqual([]);
      if (!done) continue;
      expect(steps).toBeGreaterThan(8);
      return;
    }
  });

  test('stops when it is told to, and is finished later', async () => {
    const { farm, disk } = await SimStore.open({ limits: ROOMY_LIMITS });
    const large = recordOf({ sizeBytes: 600 * 32 * KiB });
    await makeVolume({ store: farm, record: large });
    const volume = await openVolume({ store: farm, record: large });
    for (let index = 0; index < 600; index += 1) {
      await volume.write(index * large.objectBytes, blocks(1, 1), PIECE);
    }
    const stop = new AbortController();
    const telling = hooked(farm, (operation) => {
      if (operation === 'remove') stop.abort(new Error('told to stop'));
    });
    const { signal } = stop;
    const removing = removeVolume({ store: telling, record: large }, { signal });
    await expect(removing).rejects.toThrow('told to stop');
    const left = await objects(disk);
    expect(left.length).toBeGreaterThan(2);
    expect(left.length).toBeLessThan(602);
    await removeVolume({ store: farm, record: large });
    expect(await objects(disk)).toEqual([]);
  });

  test('takes along what nobody owns: made or freed when everything stopped', async () => {
    const store = await SimStore.open();
    await used(store.farm);
    const create = { ...PLAIN, createBytes: record.objectBytes };
    await store.farm.write(nameOf(7), 0, blocks(1, 1), create);
    await store.kill();
    await removeVolume({ store: store.farm, record });
    expect(await objects(store.disk)).toEqual([]);
  });

  test('takes along a leaf that never got its entry in the root', async () => {
    const store = await SimStore.open();
    await makeVolume({ store: store.farm, record });
    const leaf = leafName(VID, VID, 0);
    await store.farm.write(leaf, 0, blocks(1, 0), {
      ...PLAIN,
      createBytes: 64 * KiB,
      unowned: true,
    });
    await store.rest();
    await store.restart();
    await removeVolume({ store: store.farm, record });
    expect(await objects(store.disk)).toEqual([]);
  });

  test('of a damaged inode is refused: what belongs to it could not be found', async () => {
    const store = await SimStore.open();
    await used(store.farm);
    await store.farm.write({ ...nameOf(0), kind: KIND.inode }, 0, blocks(1, 7), PLAIN);
    expect(await codeOf(() => removeVolume({ store: store.farm, record }))).toBe('ERR_CORRUPT');
    expect((await objects(store.disk)).length).toBeGreaterThan(4);
  });
});

test('a VDI whose making is cut short anywhere can be removed, and leaves nothing', async () => {
  const random = simRandom(1);
  const start = new SimDisk({ directories: [DIRECTORY] });
  const recording = new RecordingDisk(start.kill(), start);
  const farm = await openStore(recording, DIRECTORY);
  const opened = recording.log.length;
  await makeVolume({ store: farm, record });
  const made = recording.log.length;
  expect(made - opened).toBeGreaterThan(3);
  for (let moment = opened; moment <= made; moment += 1) {
    const state = recording.stateAfter(moment);
    const cuts = [state.powerCut('nothing'), state.powerCut('everything'), state.kill(random)];
    for (let chance = 0; chance < 20; chance += 1) cuts.push(state.powerCut(random));
    for (const disk of cuts) {
      const store = await openStore(disk, DIRECTORY);
      await removeVolume({ store, record });
      expect(await objects(disk)).toEqual([]);
      await makeVolume({ store, record });
      await openVolume({ store, record });
      await store[Symbol.asyncDispose]();
    }
  }
});

describe('opening a VDI', () => {
  test('clears away what nobody owns, and nothing else', async () => {
    const store = await SimStore.open();
    await used(store.farm);
    const before = await objects(store.disk);
    const create = { ...PLAIN, createBytes: record.objectBytes };
    for (const index of [3, 7]) await store.farm.write(nameOf(index), 0, blocks(1, 1), create);
    await store.kill();
    const volume = await openVolume({ store: store.farm, record: recordOf({ attachEpoch: 2 }) });
    expect(await objects(store.disk)).toEqual(before);
    const into = new Uint8Array(BLOCK_BYTES);
    await volume.read(3 * record.objectBytes, into);
    expect(into).toEqual(blocks(1, 0));
  });

  test.for([
    ['object size', { objectBytes: 64 * KiB }],
    ['family', { family: 9 }],
  ] as const)('of another %s than its inode says is refused', async ([, other]) => {
    const { farm } = await SimStore.open();
    await makeVolume({ store: farm, record });
    expect(await codeOf(() => openVolume({ store: farm, record: recordOf(other) }))).toMatch(
      /ERR_CORRUPT|ERR_MISSING/,
    );
  });

  test('of a PiB costs no more than one of a MiB', async () => {
    const { farm, disk } = await SimStore.open();
    const huge = recordOf({ sizeBytes: 2 ** 50, objectBytes: 4 * MiB });
    await makeVolume({ store: farm, record: huge });
    const volume = await openVolume({ store: farm, record: huge });
    await volume.write(2 ** 50 - BLOCK_BYTES, blocks(1, 7), { durable: true });
    await volume.trim(0, 2 ** 50 - BLOCK_BYTES, PIECE);
    const into = new Uint8Array(BLOCK_BYTES);
    await volume.read(2 ** 50 - BLOCK_BYTES, into);
    expect(into).toEqual(blocks(1, 7));
    expect(disk.tree.names.room.usedBlocks).toBeLessThan(100);
    expect(await volume.extents(0, 2 ** 50, 10)).toEqual([
      { length: 2 ** 50 - BLOCK_BYTES, hole: true, zero: true },
      { length: BLOCK_BYTES, hole: false, zero: false },
    ]);
  });
});
