import { describe, expect, test } from 'vitest';
import { Checks } from '../../src/app/checks.ts';
import { checkCluster } from '../../src/app/cluster-snapshots/check.ts';
import { listSnapshots } from '../../src/app/cluster-snapshots/listing.ts';
import { loadSnapshot } from '../../src/app/cluster-snapshots/load.ts';
import {
  collectSnapshots,
  deleteSnapshot,
  planCollecting,
  planDeletion,
} from '../../src/app/cluster-snapshots/removal.ts';
import { showSnapshot } from '../../src/app/cluster-snapshots/show.ts';
import { silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import type { SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { beginWriting, type StoreWriter } from '../../src/farm/snapshots/writer.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { all } from '../farm/snapshots/backups.ts';
import { content } from '../farm/snapshots/store-world.ts';
import { FamilyModel, write } from '../vdi/family-model.ts';
import { objectFiles, STORE } from '../vdi/family-world.ts';
import { saveNow } from './cluster-saves.ts';
import {
  BLOCKS,
  type ClusterWorld,
  ELSEWHERE,
  family,
  NODE,
  openCluster,
  SLICE_BYTES,
} from './cluster-world.ts';

/** A family that was saved as mon, changed in one block, and saved as tue. */
async function saved() {
  const disk = new SimDisk({ directories: [STORE] });
  const world = await openCluster(disk);
  const model = new FamilyModel();
  await family(world, model);
  const mon = await saveNow(world, 'mon');
  const before = model.copy();
  await write(world, model, 'base', { first: 0, count: 1, value: 77 });
  const tue = await saveNow(world, 'tue');
  const { store } = world.parts;
  return { disk, world, model, before, mon, tue, store };
}

async function writing<T>(
  { parts }: ClusterWorld,
  act: (parts: ClusterWorld['parts'] & { writer: StoreWriter }) => Promise<T>,
): Promise<T> {
  await using writer = await beginWriting(parts.store);
  return await act({ ...parts, writer });
}

/** Turns a bit of an object. */
async function damage(disk: SimDisk, { packs }: SnapshotStore, name: Uint8Array): Promise<void> {
  const { pack, offset } = packs.index.at(packs.index.find(name));
  await turnBit(disk, packs.pathOf(packs.get(pack)!.id), offset + 100);
}

async function turnBit(disk: SimDisk, path: string, at: number): Promise<void> {
  await using file = await disk.open(path);
  const byte = new Uint8Array(1);
  await file.read(at, byte);
  await file.write(
    at,
    byte.map((value) => value ^ 1),
  );
}

/** The different slices of a disk that are not zeroes, as texts. */
function slicesOf(model: FamilyModel, name: string): Set<string> {
  const blocks = model.of(name);
  const slices = new Set<string>();
  const per = SLICE_BYTES / BLOCK_BYTES;
  for (let block = 0; block < blocks.length; block += per) {
    const slice = Array.from({ length: per }, (_, place) => blocks[block + place] ?? 0);
    if (slice.some((value) => value !== 0)) slices.add(slice.join());
  }
  return slices;
}

describe('a list', () => {
  test('says of each snapshot when it was taken, and how much it holds', async () => {
    const { store, mon, tue, model } = await saved();
    const sizeBytes = [...model.names, ...model.snapshots].reduce(
      (sum, name) => sum + model.of(name).length * BLOCK_BYTES,
      0,
    );
    const { snapshots, lost } = await listSnapshots(store);
    expect(lost).toEqual([]);
    expect(snapshots).toEqual(
      [mon, tue].map(({ entry: { tag, id, timeMs } }) => {
        return { tag, id, timeMs, vdis: 3, snapshots: 2, sizeBytes };
      }),
    );
  });

  test('names what is lost, without words that nobody can have given', async () => {
    const { disk, store, mon, world } = await saved();
    await writing(world, async ({ writer }) => {
      const { log: _log, ...snap } = mon.snap;
      await writer.appendSnap('user', { ...snap, tag: '\u001b[2J' });
      const [first] = snap.disks;
      await writer.appendSnap('user', {
        ...snap,
        tag: 'odd',
        disks: [{ ...first!, name: 'a\nb' }],
      });
    });
    await damage(disk, store, mon.entry.name);
    const { snapshots, lost } = await listSnapshots(store);
    expect(snapshots.map(({ tag }) => tag)).toEqual(['tue']);
    expect(lost.map(({ tag }) => tag).sort()).toEqual(['', 'mon', 'odd']);
    for (const { flaw } of lost) expect(flaw).not.toMatch(/\p{Cc}/u);
  });
});

describe('show', () => {
  test('says what each VDI and snapshot holds, and what is its own', async () => {
    const { store, before, tue } = await saved();
    const shown = await showSnapshot(store, 'mon');
    expect(shown).toMatchObject({ vdis: 3, snapshots: 2, nodes: [NODE] });
    const ofAll = new Set<string>();
    for (const each of shown.disks) {
      const slices = slicesOf(before, each.export);
      for (const slice of slices) ofAll.add(slice);
      expect(each.contentBytes).toBe(slices.size * SLICE_BYTES);
      expect(each.sizeBytes).toBe(before.of(each.export).length * BLOCK_BYTES);
      expect(each.neededBytes).toBeGreaterThan(each.contentBytes);
    }
    expect(shown.disks.map((each) => each.export)).toEqual([
      ...['base@one', 'base', 'c1@two', 'c1', 'c2'],
    ]);
    expect(shown.contentBytes).toBe(ofAll.size * SLICE_BYTES);
    // All but the tree of base and its first leaf is in tue as well.
    expect(shown.exclusiveBytes).toBeGreaterThan(0);
    expect(shown.exclusiveBytes).toBeLessThan(SLICE_BYTES);
    const exclusive = new Map(shown.disks.map((each) => [each.export, each.exclusiveBytes]));
    expect(exclusive.get('base')).toBe(shown.exclusiveBytes);
    expect(exclusive.get('c2')).toBe(0);
    expect(tue.reusedDisks).toBe(4);
  });

  test('counts as a disk’s own what no other disk and no other snapshot needs', async () => {
    const { world, store, before } = await saved();
    await writing(world, (parts) => deleteSnapshot(parts, 'tue', {}, () => undefined));
    const { disks } = await showSnapshot(store, 'mon');
    for (const { export: name, exclusiveBytes } of disks) {
      const others = new Set(
        disks.flatMap((each) => (each.export === name ? [] : [...slicesOf(before, each.export)])),
      );
      const own = [...slicesOf(before, name)].filter((slice) => !others.has(slice)).length;
      expect([name, Math.floor(exclusiveBytes / SLICE_BYTES)]).toEqual([name, own]);
    }
  });

  test('says how many bytes of disks it has looked at, from the first moment on', async () => {
    const { store } = await saved();
    const told: number[] = [];
    const { disks } = await showSnapshot(store, 'mon', {}, ({ doneBytes }) => told.push(doneBytes));
    expect(told[0]).toBe(0);
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    // Each tree twice, and what is elsewhere.
    const sizes = disks.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
    expect(told.at(-1)).toBeGreaterThan(2 * sizes);
  });

  test('knows what there is not', async () => {
    const { store } = await saved();
    await expect(showSnapshot(store, 'wed')).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });
});

describe('a deletion', () => {
  test('frees what a dry run says, and leaves the others whole', async () => {
    const { disk, world, store, model } = await saved();
    const packs = async () => (await disk.list(`${STORE}/farm/packs`)).length;
    const were = await packs();
    const planned = await planDeletion(world.parts, 'mon', {});
    expect(planned).toMatchObject({ dryRun: true });
    expect(await packs()).toBe(were);
    const freed = await writing(world, (parts) =>
      deleteSnapshot(parts, 'mon', {}, () => undefined),
    );
    expect(freed).toEqual({ ...planned, dryRun: false });
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['tue']);
    expect(await planCollecting(world.parts, {})).toMatchObject({ freedBytes: 0 });

    const other = new SimDisk({ directories: [STORE] });
    const elsewhere = await openCluster(other, { clusterId: ELSEWHERE, storeDisk: disk });
    const snap = await store.readSnap(store.snaps()[0]!.name);
    await loadSnapshot(elsewhere.parts, snap, {}, {}, () => undefined);
    expect(await model.compare(elsewhere)).toEqual([]);
  });

  test('of one that is damaged is possible, and of another beside it refused', async () => {
    const { disk, world, store, mon } = await saved();
    await damage(disk, store, mon.entry.name);
    const remove = (tag: string) =>
      writing(world, (parts) => deleteSnapshot(parts, tag, {}, () => undefined));
    await expect(remove('tue')).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
    await expect(planDeletion(world.parts, 'tue', {})).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
    });
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['mon', 'tue']);
    await remove('mon');
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['tue']);
    await expect(remove('mon')).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });
});

test('a collection frees what a save that failed has stored', async () => {
  const { world, store } = await saved();
  await writing(world, async ({ writer }) => {
    for (let seed = 1; seed < 9; seed += 1) await writer.put('data', content(seed));
    await writer.barrier();
  });
  await store.refresh();
  const planned = await planCollecting(world.parts, {});
  expect(planned.freedBytes).toBeGreaterThan(8 * BLOCK_BYTES);
  const freed = await writing(world, (parts) => collectSnapshots(parts, {}, () => undefined));
  expect(freed).toEqual({ ...planned, dryRun: false });
  expect(await planCollecting(world.parts, {})).toMatchObject({ freedBytes: 0 });
});

describe('a check of the cluster', () => {
  async function check({ parts }: ClusterWorld, samplePercent = 100, withStore = true) {
    const { directory, clock, volumes, store } = parts;
    await using checks = new Checks(volumes, clock, silentLog);
    const all_ = { directory, clock, checks, ...(withStore && { store }) };
    const lines = await all(checkCluster(all_, { samplePercent }, {}));
    const end = lines.at(-1);
    if (end?.is !== 'end') throw new Error('it has an end');
    const flaws = lines.flatMap((line) => (line.is === 'flaw' ? [line.flaw] : []));
    return { lines, flaws, result: end.result };
  }

  test('proves every snapshot, and everything that is served', async () => {
    const { world, store } = await saved();
    const { lines, flaws, result } = await check(world);
    expect(flaws).toEqual([]);
    expect(result).toMatchObject({ snapshots: 2, exports: 5, samplePercent: 100, flawCount: 0 });
    const stored = (await showSnapshot(store, 'mon')).contentBytes;
    expect(result.readBytes).toBeGreaterThan(stored);
    const told = lines.flatMap((line) => (line.is === 'progress' ? [line.what] : []));
    expect(new Set(told)).toEqual(
      new Set(['snapshots of the cluster', 'base', 'base@one', 'c1', 'c1@two', 'c2']),
    );
  });

  test('names damage of a snapshot by object, disk and bytes, for each that has it', async () => {
    const { disk, world, store, mon } = await saved();
    const base = mon.snap.disks.find(({ name, snapshot }) => name === 'base' && snapshot === '')!;
    await damage(disk, store, base.root);
    const { flaws, result } = await check(world);
    expect(flaws).toEqual([
      {
        message: expect.stringMatching(
          `^snapshot ${mon.entry.id.slice(0, 8)} .mon.: bytes 0 to .* of base are lost: object `,
        ),
        ...{ object: store.format(base.root), snapshot: 'mon', export: 'base' },
        ...{ at: 0, length: BLOCKS * BLOCK_BYTES },
      },
    ]);
    expect(result.flawCount).toBe(1);
  });

  test('names damage of what is served, and goes on to the others', async () => {
    const { disk, world } = await saved();
    const { vid } = await world.directory.snapshotInfo({ name: 'c1', snapshot: 'two' });
    const oid = (await objectFiles(disk)).find((name) => {
      return name.startsWith('0') && name.includes(vid.toString(16).padStart(8, '0'));
    });
    await world.stop();
    const cut = disk.powerCut('nothing');
    for (const folder of await cut.list(`${STORE}/obj`)) {
      const path = `${STORE}/obj/${folder}/${oid}`;
      if ((await cut.list(`${STORE}/obj/${folder}`)).includes(oid!)) {
        await turnBit(cut, path, BLOCK_BYTES + 5);
      }
    }
    const next = await openCluster(cut);
    const { flaws, result } = await check(next);
    expect(new Set(flaws.map((flaw) => flaw.export))).toEqual(new Set(['c1@two', 'c1', 'c2']));
    expect(result).toMatchObject({ exports: 5, flawCount: flaws.length });
    for (const flaw of flaws) expect(flaw).not.toHaveProperty('snapshot');
  });

  test('reads a share of the slices of snapshots if that is wanted', async () => {
    const { world } = await saved();
    const whole = (await check(world)).result;
    const some = (await check(world, 1)).result;
    expect(some.samplePercent).toBe(1);
    expect(some.readBytes).toBeLessThan(whole.readBytes);
  });

  test('of a cluster without snapshots reads what is served', async () => {
    const { world } = await saved();
    const { result } = await check(world, 100, false);
    expect(result).toMatchObject({ snapshots: 0, exports: 5, flawCount: 0 });
    expect(result.readBytes).toBeLessThan(5 * 4 * MiB);
  });
});
