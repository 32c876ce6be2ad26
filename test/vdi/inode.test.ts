import { describe, expect, test } from 'vitest';
import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { KIND } from '../../src/base/ids.ts';
import { GiB, MiB, TiB } from '../../src/base/units.ts';
import { Inode } from '../../src/vdi/inode.ts';
import { LEAF_ENTRIES, leafName, rootName } from '../../src/vdi/inode-format.ts';
import { makeRoot } from '../../src/vdi/inode-nodes.ts';
import { codeOf, failureOf, SimStore } from '../farm/store.ts';
import { hooked, ROOMY_LIMITS, type StoreOperation, VID } from './stores.ts';

const CALL = Object.freeze({
  stamp: Object.freeze({ epoch: 1, attachEpoch: 1 }),
  durable: false,
});

/** 1 MiB an object, so that a leaf speaks of 16 GiB. */
const disk = (sizeBytes: number) => ({ vid: VID, family: VID, sizeBytes, objectBytes: MiB });

async function made(sizeBytes: number) {
  const store = await SimStore.open({ limits: ROOMY_LIMITS });
  await makeRoot(store.farm, disk(sizeBytes), CALL);
  const open = () => Inode.open(store.farm, disk(sizeBytes), CALL);
  return { store, open, inode: await open() };
}

/** Every object that somebody owns. */
async function owned(inode: Inode): Promise<number[]> {
  const found: number[] = [];
  const end = 2 ** 28;
  for (let index = inode.skipHoles(0, end); index < end; index = inode.skipHoles(index, end)) {
    for (const leafEnd = index + LEAF_ENTRIES; index < leafEnd; index += 1) {
      if ((await inode.owner(index)) !== 0) found.push(index);
    }
  }
  return found;
}

describe('an inode', () => {
  test('says of a new disk that nobody owns anything, without a look', async () => {
    const { inode } = await made(TiB);
    expect(inode.ownerNow(0)).toBe(0);
    expect(inode.ownerNow(2 ** 20 - 1)).toBe(0);
    expect(await inode.owner(77)).toBe(0);
    expect(await inode.countOwned((vid) => vid === VID)).toEqual({ own: 0, all: 0 });
    expect(inode.skipHoles(0, 2 ** 20)).toBe(2 ** 20);
    expect(inode.skipHoles(5, 9)).toBe(9);
  });

  test('keeps owners in leaves that are made as they are needed', async () => {
    const { store, inode, open } = await made(TiB);
    const indexes = [0, 1, 5, LEAF_ENTRIES - 1, LEAF_ENTRIES, 40 * LEAF_ENTRIES + 3, 2 ** 20 - 1];
    await inode.setOwners(indexes, VID);
    await inode.setOwners([5], 0);
    await store.farm.flush(VID);
    const left = indexes.filter((index) => index !== 5);
    await store.powerCut();
    for (const each of [await open(), await Inode.open(store.farm, disk(TiB), CALL)]) {
      expect(await owned(each)).toEqual(left);
      expect(await each.countOwned((vid) => vid === VID)).toEqual({
        own: left.length,
        all: left.length,
      });
      for (const index of [...indexes, 2, 3 * LEAF_ENTRIES, 2 ** 20 - 2]) {
        expect(await each.owner(index)).toBe(left.includes(index) ? VID : 0);
        expect(each.ownerNow(index)).toBe(left.includes(index) ? VID : 0);
      }
    }
  });

  test('knows where whole leaves are absent', async () => {
    const { inode } = await made(TiB);
    await inode.setOwners([3 * LEAF_ENTRIES + 7], VID);
    expect(inode.skipHoles(0, 2 ** 20)).toBe(3 * LEAF_ENTRIES + 7);
    expect(inode.skipHoles(4 * LEAF_ENTRIES + 9, 2 ** 20)).toBe(2 ** 20);
  });

  test('knows where the holes of a leaf are once it is in memory', async () => {
    const { inode, open, store } = await made(TiB);
    const index = 3 * LEAF_ENTRIES + 7;
    await inode.setOwners([index, 9 * LEAF_ENTRIES], VID);
    await store.farm.flush(VID);
    const again = await open();
    expect(again.skipHoles(0, 2 ** 20)).toBe(index - 7);
    expect(again.skipHoles(index - 3, 2 ** 20)).toBe(index - 3);
    expect(await again.owner(index)).toBe(VID);
    expect(again.skipHoles(0, 2 ** 20)).toBe(index);
    expect(again.skipHoles(index, 2 ** 20)).toBe(index);
    expect(again.skipHoles(index - 3, index - 1)).toBe(index - 1);
    expect(again.skipHoles(index + 1, 2 ** 20)).toBe(9 * LEAF_ENTRIES);
    await again.setOwners([index], 0);
    expect(again.skipHoles(0, 2 ** 20)).toBe(9 * LEAF_ENTRIES);
  });

  test('knows what is the same in another without asking for each object', async () => {
    const { inode } = await made(TiB);
    const other = (await made(TiB)).inode;
    await inode.setOwners([5, LEAF_ENTRIES + 1], VID);
    expect(inode.sameUntil(other, 0, 2 ** 20)).toBe(5);
    expect(other.sameUntil(inode, 0, 2 ** 20)).toBe(5);
    expect(inode.sameUntil(other, 2, 4)).toBe(4);
    expect(inode.sameUntil(other, 5, 2 ** 20)).toBe(5);
    expect(inode.sameUntil(other, 6, 2 ** 20)).toBe(LEAF_ENTRIES + 1);
    expect(inode.sameUntil(other, LEAF_ENTRIES + 2, 2 ** 20)).toBe(2 ** 20);
  });

  test('names the nodes that a change touched', async () => {
    const { inode } = await made(TiB);
    const [root, first, second] = [
      rootName(VID, VID),
      leafName(VID, VID, 0),
      leafName(VID, VID, 1),
    ];
    expect(await inode.setOwners([1, LEAF_ENTRIES], VID)).toEqual([root, first, root, second]);
    expect(await inode.setOwners([2], VID)).toEqual([first]);
    expect(await inode.setOwners([9 * LEAF_ENTRIES], 0)).toEqual([]);
  });

  test('takes changes at the same time, each as if alone', async () => {
    const { store, inode, open } = await made(TiB);
    const indexes = Array.from({ length: 300 }, (_, place) => (place * 3001) % 2 ** 20);
    await Promise.all(indexes.map((index) => inode.setOwners([index], VID)));
    const sorted = indexes.toSorted((a, b) => a - b);
    expect(await owned(inode)).toEqual(sorted);
    await store.farm.flush(VID);
    await store.powerCut();
    expect(await owned(await open())).toEqual(sorted);
  });

  test('says what changed in a leaf that had left memory', async () => {
    const { inode } = await made(12 * TiB);
    await inode.setOwners([1], VID);
    expect(inode.ownerNow(1)).toBe(VID);
    const others = Array.from({ length: 600 }, (_, leaf) => (leaf + 1) * LEAF_ENTRIES);
    for (const index of others) await inode.setOwners([index], VID);
    await inode.setOwners([2], VID);
    expect(inode.ownerNow(2)).toBe(VID);
    await inode.setOwners([1], 0);
    expect(inode.ownerNow(1)).toBe(0);
  }, 30_000);

  test('of more leaves than memory holds forgets none', async () => {
    const { inode, open } = await made(12 * TiB);
    const leaves = 700;
    const indexes = Array.from({ length: leaves }, (_, leaf) => leaf * LEAF_ENTRIES + leaf);
    for (const index of indexes) await inode.setOwners([index], VID);
    // Again through all of them, at once: each leaf leaves memory and comes back.
    const more = indexes.map((index) => index + 1);
    await Promise.all(more.map((index) => inode.setOwners([index], VID)));
    await Promise.all(indexes.map((index) => inode.setOwners([index + 2], VID)));
    for (const each of [inode, await open()]) {
      expect((await each.countOwned((vid) => vid === VID)).own).toBe(3 * leaves);
      for (const leaf of [0, 1, 511, 512, 699]) {
        const index = indexes[leaf] as number;
        expect(await each.owner(index)).toBe(VID);
        expect(await each.owner(index + 2)).toBe(VID);
        expect(await each.owner(index + 3)).toBe(0);
      }
    }
  }, 30_000);
});

describe('a change of the inode that fails', () => {
  /** The `count`th operation of this kind on a node fails. */
  function failing(operation: StoreOperation, nodeIndex: number, code: FaultCode) {
    let due = true;
    return (kind: StoreOperation, names: readonly { kind: number; index: number }[]) => {
      const [name] = names;
      if (!due || kind !== operation || name?.kind !== KIND.inode) return;
      if (name.index !== nodeIndex) return;
      due = false;
      throw new SheepError(code, 'as the test wants');
    };
  }

  test.for([
    ['the new leaf', 1],
    ['the root', 0],
  ] as const)(
    'because of %s is made by the next one, and is there after a stop',
    async ([, nodeIndex]) => {
      for (const code of ['ERR_NO_SPACE', 'ERR_IO'] as const) {
        const { store, open } = await made(64 * GiB);
        const hook = failing('write', nodeIndex, code);
        const inode = await Inode.open(hooked(store.farm, hook), disk(64 * GiB), CALL);
        expect(await codeOf(() => inode.setOwners([3], VID))).toBe(code);
        await inode.setOwners([3, 4], VID);
        expect(await owned(inode)).toEqual([3, 4]);
        await store.farm.flush(VID);
        await store.powerCut();
        expect(await owned(await open())).toEqual([3, 4]);
      }
    },
  );

  test.for([
    ['an owner', 0, VID],
    ['a hole', VID, 0],
  ] as const)(
    'and would have made %s: what it says is what the store holds',
    async ([, before, after]) => {
      for (const code of ['ERR_NO_SPACE', 'ERR_IO'] as const) {
        const { store, open, inode: first } = await made(64 * GiB);
        await first.setOwners([100], VID);
        await first.setOwners([3], before);
        const hook = failing('write', 1, code);
        const inode = await Inode.open(hooked(store.farm, hook), disk(64 * GiB), CALL);
        expect(await inode.owner(3)).toBe(before);
        expect(inode.ownerNow(3)).toBe(before);
        expect(await codeOf(() => inode.setOwners([3], after))).toBe(code);
        expect(await inode.owner(3)).toBe(before);
        // Another entry of the same block does not carry it along.
        await inode.setOwners([4], VID);
        expect(await inode.owner(3)).toBe(before);
        await store.restart();
        expect(await (await open()).owner(3)).toBe(before);
        expect(await (await open()).owner(4)).toBe(VID);
      }
    },
  );

  test('while another of the same block succeeds leaves one truth', async () => {
    const { store, open, inode: first } = await made(64 * GiB);
    await first.setOwners([100], VID);
    const hook = failing('write', 1, 'ERR_NO_SPACE');
    const inode = await Inode.open(hooked(store.farm, hook), disk(64 * GiB), CALL);
    const results = await Promise.allSettled(
      [3, 4, 5].map((index) => inode.setOwners([index], VID)),
    );
    expect(results.map(({ status }) => status).sort()).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
    ]);
    const shown = await owned(inode);
    for (const [place, { status }] of results.entries()) {
      if (status === 'fulfilled') expect(shown).toContain(3 + place);
    }
    await store.restart();
    expect(await owned(await open())).toEqual(shown);
  });
});

describe('a wrong inode', () => {
  test('is refused, with what differs', async () => {
    const { store } = await made(64 * GiB);
    for (const [field, wrong] of [
      ['objectBytes', { ...disk(64 * GiB), objectBytes: 4 * MiB }],
      ['family', { ...disk(64 * GiB), family: 9 }],
    ] as const) {
      expect(await failureOf(() => Inode.open(store.farm, wrong, CALL))).toMatchObject({
        code: 'ERR_CORRUPT',
        message: expect.stringContaining(field),
      });
    }
  });

  test('that is missing is missed', async () => {
    const { farm } = await SimStore.open();
    expect(await codeOf(() => Inode.open(farm, disk(GiB), CALL))).toBe('ERR_MISSING');
  });

  test('in a leaf is told, not taken for holes', async () => {
    const { store, open, inode } = await made(64 * GiB);
    await inode.setOwners([3], VID);
    await store.farm.remove(leafName(VID, VID, 0), CALL);
    expect(await codeOf(async () => (await open()).owner(3))).toBe('ERR_MISSING');
  });
});
