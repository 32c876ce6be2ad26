import { describe, expect, test } from 'vitest';
import { AssertionFailure } from '../../../src/base/assert.ts';
import { checkStore } from '../../../src/farm/snapshots/check.ts';
import { collect } from '../../../src/farm/snapshots/collect.ts';
import { findStale, keepStale, releaseStale } from '../../../src/farm/snapshots/stale-objects.ts';
import { mayGo } from '../../../src/farm/snapshots/stale-rules.ts';
import { openStale } from '../../../src/farm/snapshots/stale-snap.ts';
import type { SnapEntry, SnapshotStore } from '../../../src/farm/snapshots/store.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import { all, backUp, bytesOf, someDisk } from './backups.ts';
import { bytesOfMade, Cluster, keeping, key, type Made, object } from './stale-world.ts';
import { emptyDisk, openStore } from './store-world.ts';

async function world() {
  const owned = new AsyncDisposableStack();
  const store = owned.use(await openStore({ disk: emptyDisk() }));
  const writer = owned.use(await beginWriting(store));
  return { store, writer, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** What a snap of an epoch holds, by its oids. */
async function held(store: SnapshotStore, entry: SnapEntry): Promise<Map<string, Uint8Array>> {
  const snap = await openStale(store, entry);
  const found = new Map<string, Uint8Array>();
  for (const each of snap.objects) found.set(key(each.name), await snap.read(each));
  return found;
}

function expected(made: readonly Made[]): Map<string, Uint8Array> {
  return new Map(made.map((each) => [key(each.name), bytesOfMade(each)]));
}

async function contentOf(store: SnapshotStore, entry: SnapEntry, { name }: Made) {
  const snap = await openStale(store, entry);
  return snap.contentOf(snap.find(name)!);
}

/** Bytes of all packs. */
const sizeOf = (store: SnapshotStore) =>
  [...store.packs.all()].reduce((sum, { fileBytes }) => sum + fileBytes, 0);

const newer = { stamp: { epoch: 9, attachEpoch: 9 } };

describe('what an epoch left behind', () => {
  test('is kept with its size, its stamp and every byte, of all kinds and far apart', async () => {
    await using it = await world();
    const made = [
      object(7, 0),
      object(7, 1, { seed: 0 }),
      object(7, 200_000, { seed: 3, bytes: 16_384, stamp: { epoch: 4, attachEpoch: 2 } }),
      object(2 ** 32 - 1, 2 ** 28 - 1, { seed: 4, bytes: 5000 }),
      { ...object(7, 0, { seed: 5, bytes: 65_536 }), name: { kind: 1, vid: 7, index: 0, slot: 9 } },
    ] as const;
    const { entry } = await keepStale(it.writer, keeping(5, made));
    expect(await held(it.store, entry)).toEqual(expected(made));
    const snap = await openStale(it.store, entry);
    expect(snap.find(made[2].name)).toMatchObject({ stamp: made[2].stamp, bytes: 16_384 });
    expect(snap.find({ ...made[0].name, index: 2 })).toBeUndefined();
    expect(it.store.snaps('user')).toEqual([]);
    expect(await all(checkStore(it.store))).toEqual([]);
  });

  test('and did not change points to what is there; what did is stored beside it', async () => {
    await using it = await world();
    const made = Array.from({ length: 50 }, (_, index) => object(7, index, { seed: index + 1 }));
    const first = await keepStale(it.writer, keeping(5, made));
    expect(first).toMatchObject({ unchanged: 0, replaced: 0 });
    const before = sizeOf(it.store);
    const again = await keepStale(it.writer, keeping(6, made));
    expect(again).toMatchObject({ unchanged: 50, replaced: 0 });
    // Its snap, and nothing of what stands in it.
    expect(sizeOf(it.store) - before).toBeLessThan(2500);
    const changed = made.with(3, { ...made[3]!, seed: 99 });
    const more = [...changed.slice(0, 49), object(8, 0, { seed: 1 })];
    const third = await keepStale(it.writer, keeping(7, more));
    expect(third).toMatchObject({ unchanged: 48, replaced: 1 });
    const [one, other] = [
      await contentOf(it.store, first.entry, made[3]!),
      await contentOf(it.store, third.entry, made[3]!),
    ];
    expect(one).not.toEqual(other);
    expect(await contentOf(it.store, again.entry, made[3]!)).toEqual(one);
    expect(await held(it.store, first.entry)).toEqual(expected(made));
    expect(await held(it.store, third.entry)).toEqual(expected(more));
  });

  test('is found as of an epoch, also in an earlier one, and the last of those of one', async () => {
    await using it = await world();
    const [a, b] = [object(7, 1, { seed: 1 }), object(7, 2, { seed: 2 })];
    await keepStale(it.writer, keeping(3, [a, b]));
    await keepStale(it.writer, keeping(5, [{ ...a, seed: 3 }]));
    await keepStale(it.writer, keeping(5, [{ ...a, seed: 4 }]));
    const seedAt = async ({ name }: Made, epoch: number) => {
      const found = await findStale(it.store, name, epoch);
      if (found === undefined) return undefined;
      const bytes = await found.snap.read(found.object);
      return [1, 2, 3, 4].find((seed) => Buffer.compare(bytes, bytesOfMade({ ...a, seed })) === 0);
    };
    expect(await Promise.all([2, 3, 4, 5, 6].map((epoch) => seedAt(a, epoch)))).toEqual([
      ...[undefined, 1, 1, 4, 4],
    ]);
    expect(await seedAt(b, 6)).toBe(2);
    expect(await seedAt(object(7, 3), 6)).toBeUndefined();
  });

  test('must come in the order of its oids, and be something', async () => {
    await using it = await world();
    const { objects, ...options } = keeping(5, [object(7, 1), object(7, 2)]);
    for (const wrong of [[], objects.toReversed(), [objects[0]!, objects[0]!]]) {
      const keep = keepStale(it.writer, { ...options, objects: wrong });
      await expect(keep).rejects.toBeInstanceOf(AssertionFailure);
    }
  });
});

describe('what may go', () => {
  test('goes out of the snap of its epoch, and its space with the next collection', async () => {
    await using it = await world();
    const made = Array.from({ length: 40 }, (_, index) => object(7, index, { seed: index + 1 }));
    await keepStale(it.writer, keeping(5, made));
    const goes = made.filter((_, index) => index % 2 === 0);
    const facts = new Cluster().clean(5, ...made.map(({ name }) => name));
    for (const { name } of goes) facts.holds(name, newer);
    const before = sizeOf(it.store);
    expect(await releaseStale(it.writer, facts)).toBe(20);
    const [entry, none] = it.store.snaps('sys');
    expect([entry?.epoch, none]).toEqual([5, undefined]);
    const stays = made.filter((_, index) => index % 2 === 1);
    expect(await held(it.store, entry!)).toEqual(expected(stays));
    await collect(it.writer, { graceMs: 0 });
    expect(sizeOf(it.store)).toBeLessThan(before * 0.65);
    expect(await held(it.store, entry!)).toEqual(expected(stays));
    expect(await all(checkStore(it.store))).toEqual([]);
    // A second time there is nothing to do.
    expect(await releaseStale(it.writer, facts)).toBe(0);
    expect(it.store.snaps('sys')).toEqual([entry]);
  });

  test('and is all of an epoch takes its snap along', async () => {
    await using it = await world();
    const made = [object(7, 1), object(8, 2)];
    await keepStale(it.writer, keeping(5, made));
    const facts = new Cluster().clean(5, ...made.map(({ name }) => name));
    for (const { name } of made) facts.holds(name, newer);
    expect(await releaseStale(it.writer, facts)).toBe(2);
    expect(it.store.snaps()).toEqual([]);
    await collect(it.writer, { graceMs: 0 });
    expect([...it.store.packs.all()]).toEqual([]);
  });

  test('does not go because this node holds something newer itself', async () => {
    await using it = await world();
    const old = object(7, 1, { seed: 1 });
    await keepStale(it.writer, keeping(5, [old]));
    const now = { ...old, seed: 2, stamp: { epoch: 6, attachEpoch: 1 } };
    expect(await keepStale(it.writer, keeping(6, [now]))).toMatchObject({ replaced: 1 });
    expect(await releaseStale(it.writer, new Cluster().clean(6, old.name))).toBe(0);
    expect(it.store.snaps('sys').map(({ epoch }) => epoch)).toEqual([5, 6]);
  });

  test('goes where the same content is elsewhere, by its name here', async () => {
    await using it = await world();
    const [a, b] = [object(7, 1, { seed: 1 }), object(7, 2, { seed: 2 })];
    const { entry } = await keepStale(it.writer, keeping(5, [a, b]));
    const content = await contentOf(it.store, entry, a);
    const facts = new Cluster()
      .clean(5, a.name, b.name)
      .holds(a.name, { stamp: a.stamp, content })
      .holds(b.name, { stamp: b.stamp, content });
    expect(await releaseStale(it.writer, facts)).toBe(1);
    expect([...(await held(it.store, it.store.snaps('sys')[0]!)).keys()]).toEqual(['0/7/2']);
  });

  test('leaves what people saved, though it is the same content, until they delete it', async () => {
    await using it = await world();
    const device = someDisk(8, 3);
    const user = await backUp(it.writer, device, 'mine');
    const made = Array.from({ length: 2 }, (_, index) => object(7, index));
    const objects = keeping(5, made).objects.map((each) => ({
      ...each,
      read: (at: number, into: Uint8Array) =>
        void into.set(
          device.bytes.subarray(each.name.index * 16_384 + at).subarray(0, into.length),
        ),
    }));
    await keepStale(it.writer, { ...keeping(5, made), objects });
    const facts = new Cluster().clean(5, ...made.map(({ name }) => name));
    for (const { name } of made) facts.holds(name, newer);
    expect(await releaseStale(it.writer, facts)).toBe(2);
    await collect(it.writer, { graceMs: 0 });
    expect(Buffer.compare(await bytesOf(it.store, user), device.bytes)).toBe(0);
    await it.writer.cancelSnap(user);
    await collect(it.writer, { graceMs: 0 });
    expect([...it.store.packs.all()]).toEqual([]);
  });
});

test('a damaged object of an epoch is named, and never given out', async () => {
  await using it = await world();
  const made = [object(7, 1, { seed: 1 }), object(7, 2, { seed: 2 })];
  const { entry } = await keepStale(it.writer, keeping(5, made));
  const snap = await openStale(it.store, entry);
  const pack = [...it.store.packs.all()].find(({ kind }) => kind === 'data')!;
  const { disk } = it.store.options;
  {
    await using file = await disk.open(it.store.packs.pathOf(pack.id));
    await file.write(Math.floor(pack.fileBytes / 2), new Uint8Array(64).fill(0xff));
  }
  const outcomes = await Promise.allSettled(snap.objects.map((each) => snap.read(each)));
  const failures = outcomes.filter(({ status }) => status === 'rejected');
  expect(failures).toHaveLength(1);
  expect(failures[0]).toMatchObject({ reason: { code: 'ERR_CORRUPT' } });
  const findings = await all(checkStore(it.store));
  expect(findings.map(({ message }) => message)).toEqual([
    expect.stringMatching(/of objects of 000000007 are lost/),
  ]);
});

describe.for([1, 2, 3, 4])('whatever happens, in order %i', (seed) => {
  test('each epoch holds what it must, and what may go is gone', { timeout: 30_000 }, async () => {
    await using it = await world();
    const random = simRandom(seed);
    /** In the order in which they were kept, and nothing cleverer. */
    const model: { epoch: number; made: Made[] }[] = [];
    let epoch = 0;
    for (let step = 0; step < 25; step += 1) {
      const choice = random.below(4);
      if (choice < 2) {
        epoch += random.below(2) + (model.length === 0 ? 1 : 0);
        const made = someObjects(epoch);
        if (made.length === 0) continue;
        const kept = await keepStale(it.writer, keeping(epoch, made));
        expect(kept).toMatchObject(compared(made));
        model.push({ epoch, made });
      } else if (choice === 2) {
        const { facts, names } = someFacts();
        let expectedCount = 0;
        for (const each of model) {
          const stays = each.made.filter(
            (one) => !names.has(key(one.name)) || !mayGo(each.epoch, one, NOWHERE, facts),
          );
          expectedCount += each.made.length - stays.length;
          each.made = stays;
        }
        for (let at = model.length - 1; at >= 0; at -= 1) {
          if (model[at]!.made.length === 0) model.splice(at, 1);
        }
        expect(await releaseStale(it.writer, facts)).toBe(expectedCount);
      } else await collect(it.writer, { graceMs: 0 });
      await compare(it.store);
    }

    function someObjects(now: number): Made[] {
      const made: Made[] = [];
      for (let index = 0; index < 12; index += 1) {
        if (random.below(3) === 0) continue;
        const stamp = { epoch: random.below(now + 1), attachEpoch: random.below(2) };
        made.push(object(7 + (index % 2), index, { seed: random.below(4), stamp }));
      }
      return made;
    }
    function compared(made: readonly Made[]) {
      let [unchanged, replaced] = [0, 0];
      for (const one of made) {
        const before = model
          .findLast((each) => each.made.some(({ name }) => key(name) === key(one.name)))
          ?.made.find(({ name }) => key(name) === key(one.name));
        if (before === undefined) continue;
        if (before.seed === one.seed) unchanged += 1;
        else replaced += 1;
      }
      return { unchanged, replaced };
    }
    function someFacts() {
      const facts = new Cluster();
      const names = new Set<string>();
      for (const { made } of model) {
        for (const { name } of made) {
          if (names.has(key(name))) continue;
          names.add(key(name));
          facts.clean(random.below(epoch + 1), name);
          if (random.below(3) === 0) continue;
          facts.holds(name, { stamp: { epoch: random.below(epoch + 2), attachEpoch: 1 } });
        }
      }
      return { facts, names };
    }
    async function compare(store: SnapshotStore): Promise<void> {
      const found = [];
      for (const each of store.snaps('sys')) found.push([each.epoch, await held(store, each)]);
      expect(found).toEqual(model.map(({ epoch: at, made }) => [at, expected(made)]));
      expect(await all(checkStore(store))).toEqual([]);
    }
  });
});

/** No content has this name. */
const NOWHERE = new Uint8Array(32).fill(0xff);
