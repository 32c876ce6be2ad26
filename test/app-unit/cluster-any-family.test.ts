import { expect, test } from 'vitest';
import { loadSnapshot, planLoad } from '../../src/app/cluster-snapshots/load.ts';
import type { Snap } from '../../src/farm/snapshots/snap-contents.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS, STORE } from '../vdi/family-world.ts';
import { saveNow, wrongIn } from './cluster-saves.ts';
import { type ClusterWorld, ELSEWHERE, openCluster } from './cluster-world.ts';

const SEEDS = Array.from({ length: 14 }, (_, seed) => seed);
const BLOCKS_MAX = 3 * OBJECT_BLOCKS;
const DELETE = { dryRun: false };

/** Some change of the cluster and of the model: whatever there is may be written, frozen, or go. */
async function step(
  world: ClusterWorld,
  model: FamilyModel,
  random: ReturnType<typeof simRandom>,
  nth: number,
): Promise<void> {
  const { volumes, deletions } = world;
  const one = <T>(list: readonly T[]): T | undefined => list[random.below(list.length || 1)];
  const [name, snapshot] = [one(model.names), one(model.snapshots)];
  const [of = '', tag = ''] = snapshot?.split('@') ?? [];
  const blocks = name === undefined ? 0 : model.of(name).length;
  const kind = random.below(10);
  if (name === undefined || (kind === 0 && model.names.length < 4)) {
    await create(world, model, `d${nth}`, 1 + random.below(BLOCKS_MAX));
  } else if (kind <= 3) {
    const first = random.below(blocks);
    const count = Math.min(1 + random.below(9), blocks - first);
    await write(world, model, name, { first, count, value: random.below(3) * nth });
  } else if (kind === 4) {
    const first = random.below(blocks);
    const count = Math.min(random.below(2 * OBJECT_BLOCKS), blocks - first);
    const device = await world.device(name);
    await device.trim(first * 4096, count * 4096, { durable: false });
    model.fill(name, first, count, 0);
  } else if (kind === 5) {
    await volumes.snapshot(name, `s${nth}`);
    model.snapshot(name, `s${nth}`);
  } else if (kind === 6 && snapshot !== undefined) {
    await volumes.clone({ name: of, snapshot: tag }, `c${nth}`);
    model.clone(snapshot, `c${nth}`);
  } else if (kind === 7) {
    await world.leaveAll();
    const size = 1 + random.below(BLOCKS_MAX);
    await volumes.resize(name, size * 4096, DELETE);
    model.resize(name, size);
  } else if (kind === 8 && snapshot !== undefined) {
    await world.leaveAll();
    await volumes.rollback(of, tag);
    model.rollback(of, tag);
  } else if (kind === 9) {
    await world.leaveAll();
    const goes = random.below(2) === 0 ? name : snapshot;
    if (goes === undefined) return;
    const [vdi = '', its] = goes.split('@');
    const what = its === undefined ? DELETE : { ...DELETE, snapshot: its };
    await deletions.finish(await volumes.delete(vdi, what));
    model.delete(goes);
  }
}

async function expectLoaded(
  disk: SimDisk,
  world: ClusterWorld,
  snap: Snap,
  model: FamilyModel,
): Promise<void> {
  await world.leaveAll();
  const planned = await planLoad(world.parts, snap, { replace: true });
  const loaded = await loadSnapshot(world.parts, snap, { replace: true }, {}, () => undefined);
  expect(loaded).toEqual(planned);
  for (const name of [...model.names, ...model.snapshots]) {
    expect(await world.volumes.info(name)).toBeDefined();
  }
  const others = (await world.volumes.list()).filter(({ name }) => !model.has(name));
  for (const { name } of others) {
    const [vdi = '', snapshot] = name.split('@');
    await world.volumes.delete(vdi, { ...DELETE, ...(snapshot !== undefined && { snapshot }) });
  }
  expect(await model.compare(world)).toEqual([]);
  await world.settle();
  expect(await model.compare(world)).toEqual([]);
  expect(await leaks(disk, world)).toEqual([]);
}

test.for(SEEDS)(
  'any cluster comes back as it was, twice elsewhere and where it was [%i]',
  async (seed) => {
    const random = simRandom(seed);
    const disk = new SimDisk({ directories: [STORE] });
    const world = await openCluster(disk);
    const model = new FamilyModel();
    const saved: { readonly snap: Snap; readonly model: FamilyModel }[] = [];
    for (let nth = 1; nth <= 45; nth += 1) {
      await step(world, model, random, nth);
      if (nth % 15 !== 0) continue;
      const { snap } = await saveNow(world, `t${nth}`);
      expect(await wrongIn(world.parts.store, snap, model)).toEqual([]);
      saved.push({ snap, model: model.copy() });
    }

    const other = new SimDisk({ directories: [STORE] });
    const elsewhere = await openCluster(other, { clusterId: ELSEWHERE, storeDisk: disk });
    for (const place of [2, 0, 1, 1]) {
      const { snap, model: was } = saved[place]!;
      await expectLoaded(other, elsewhere, snap, was);
    }
    for (const place of [0, 2])
      await expectLoaded(disk, world, saved[place]!.snap, saved[place]!.model);
  },
);
