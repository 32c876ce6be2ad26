import { expect, test } from 'vitest';
import { LEAF_ENTRIES } from '../../src/vdi/inode-format.ts';
import type { Entries } from '../../src/vdi/inode-nodes.ts';
import { makeVolume, openSnapshot, openVolume } from '../../src/vdi/open-volume.ts';
import { blocks, SimStore } from '../farm/store.ts';
import { recordOf, VID } from './stores.ts';

const PLAIN = { durable: false };

/** A disk of two leaves, which is frozen, and what happens between the steps of that. */
async function frozen(between: { begun?: () => Promise<void>; last?: () => Promise<void> } = {}) {
  const { farm } = await SimStore.open();
  const objectBytes = 32 * 1024;
  const record = recordOf({ objectBytes, sizeBytes: 2 * LEAF_ENTRIES * objectBytes });
  const child = { ...record, vid: VID + 1, parent: VID };
  await makeVolume({ store: farm, record });
  const volume = await openVolume({ store: farm, record });
  const secondLeaf = LEAF_ENTRIES * objectBytes;
  await volume.write(0, blocks(1, 11), PLAIN);
  const steps: string[] = [];
  const roots: Entries[] = [];
  const meetings = [between.begun, between.last];
  const steering = { volume, secondLeaf, steps };
  const run = async () => {
    await volume.freeze(
      async (root) => {
        steps.push('prepare');
        roots.push(root);
        await makeVolume({ store: farm, record: child }, root);
      },
      async () => {
        steps.push('commit');
        return { frozen: { ...record, state: 'snapshot', tag: 'one' }, working: child };
      },
      async () => undefined,
      async () => {
        steps.push('meet');
        await meetings.shift()?.();
      },
    );
    const read = async (device: Pick<typeof volume, 'read'>, at: number) => {
      const into = new Uint8Array(4096);
      await device.read(at, into);
      return into[0];
    };
    await using snapshot = await openSnapshot({ store: farm, record });
    const anew = await openVolume({ store: farm, record: { ...child, attachEpoch: 2 } });
    return {
      inSnapshot: [await read(snapshot, 0), await read(snapshot, secondLeaf)],
      anew: [await read(anew, 0), await read(anew, secondLeaf)],
    };
  };
  return { ...steering, roots, run };
}

test('the child is made before anybody waits, and not again while they do', async () => {
  const it = await frozen();
  expect(await it.run()).toEqual({ inSnapshot: [11, 0], anew: [11, 0] });
  expect(it.steps).toEqual(['prepare', 'meet', 'meet', 'meet', 'commit']);
});

test('a leaf that comes while the child is made is in it all the same', async () => {
  const begun = () => it.volume.write(it.secondLeaf, blocks(1, 22), PLAIN) as Promise<void>;
  const it: Awaited<ReturnType<typeof frozen>> = await frozen({ begun: async () => begun() });
  expect(await it.run()).toEqual({ inSnapshot: [11, 22], anew: [11, 22] });
  expect(it.steps).toEqual(['prepare', 'meet', 'meet', 'prepare', 'meet', 'commit']);
});

test('what is written in a leaf that is there changes no root', async () => {
  const begun = () => it.volume.write(4096, blocks(1, 33), PLAIN) as Promise<void>;
  const it: Awaited<ReturnType<typeof frozen>> = await frozen({ begun: async () => begun() });
  expect(await it.run()).toEqual({ inSnapshot: [11, 0], anew: [11, 0] });
  expect(it.steps.filter((step) => step === 'prepare')).toHaveLength(1);
});
