import type { SnapshotParts } from '../../src/app/cluster-snapshots/parts.ts';
import { silentLog } from '../../src/base/log.ts';
import { KiB } from '../../src/base/units.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import { stillClock } from '../crash/disk-world.ts';
import { openStore } from '../farm/snapshots/store-world.ts';
import { create, type FamilyModel, write } from '../vdi/family-model.ts';
import { type FamilyWorld, OBJECT_BLOCKS, openWorld, STORE } from '../vdi/family-world.ts';

export const HERE = '00000000-0000-4000-8000-000000000001';
export const ELSEWHERE = '00000000-0000-4000-8000-000000000002';
export const NODE = { nodeId: 'n', version: '1', store: STORE, nbd: ['unix:/nbd'] };
/** Of four blocks: one that changed is not all of it. */
export const SLICE_BYTES = 16 * KiB;

/** A cluster of one node with a store for its snapshots, on one disk. */
export interface ClusterWorld extends FamilyWorld {
  readonly parts: SnapshotParts;
}

export interface ClusterOptions {
  readonly clusterId?: string;
  /** Where the snapshots are. */
  readonly storeDisk?: Disk;
  /** Something between the VDIs and their objects. */
  readonly wrap?: (store: ObjectStore) => ObjectStore;
  /** Something between the directory and its log. */
  readonly wrapCoordinator?: (coordinator: Coordinator) => Coordinator;
  readonly clock?: Clock;
}

/** Never the same time twice. */
export function tickingClock(): Clock {
  let now = 1_700_000_000_000;
  return {
    ...stillClock,
    wallMs: () => {
      now += 1000;
      return now;
    },
  };
}

export async function openCluster(disk: Disk, options: ClusterOptions = {}): Promise<ClusterWorld> {
  const { clusterId = HERE, storeDisk = disk, wrap = (store) => store } = options;
  const { clock = tickingClock() } = options;
  let objects: ObjectStore | undefined;
  const world = await openWorld(
    disk,
    (inner) => {
      objects = wrap(inner);
      return objects;
    },
    clock,
    options.wrapCoordinator,
  );
  const store = await openStore({
    ...{ disk: storeDisk, directory: `${STORE}/farm` },
    create: { hash: 'sha256', codec: 'none', sliceBytes: SLICE_BYTES },
  });
  const parts: SnapshotParts = {
    ...{ store, clusterId, clock, nodes: [NODE], log: silentLog },
    ...{ volumes: world.volumes, directory: world.directory, deletions: world.deletions },
    objects: objects ?? world.farm,
  };
  const stop = async () => {
    await store[Symbol.asyncDispose]();
    await world.stop();
  };
  return { ...world, parts, stop };
}

export const BLOCKS = 3 * OBJECT_BLOCKS + 5;

/**
 * base, of four objects; base@one, before two of them were changed in part and one was freed; c1,
 * cloned of that and changed, with a snapshot c1@two; c2 cloned of that, and larger.
 */
export async function family(world: ClusterWorld, model: FamilyModel): Promise<void> {
  const { volumes } = world;
  await create(world, model, 'base', BLOCKS);
  for (const index of [0, 1, 2, 3]) {
    const first = index * OBJECT_BLOCKS;
    await write(world, model, 'base', { first, count: 5, value: 10 + index });
  }
  await volumes.snapshot('base', 'one');
  model.snapshot('base', 'one');
  await write(world, model, 'base', { first: OBJECT_BLOCKS + 1, count: 1, value: 21 });
  await write(world, model, 'base', { first: 2 * OBJECT_BLOCKS + 7, count: 9, value: 22 });
  await (await world.device('base')).trim(3 * OBJECT_BLOCKS * 4096, 5 * 4096, { durable: false });
  model.fill('base', 3 * OBJECT_BLOCKS, 5, 0);
  await volumes.clone({ name: 'base', snapshot: 'one' }, 'c1');
  model.clone('base@one', 'c1');
  await write(world, model, 'c1', { first: 1, count: 1, value: 31 });
  await volumes.snapshot('c1', 'two');
  model.snapshot('c1', 'two');
  await volumes.clone({ name: 'c1', snapshot: 'two' }, 'c2');
  model.clone('c1@two', 'c2');
  await write(world, model, 'c2', { first: 2, count: 2, value: 41 });
  await world.leaveAll();
  await volumes.resize('c2', (BLOCKS + 20) * 4096, { dryRun: false });
  model.resize('c2', BLOCKS + 20);
  await write(world, model, 'c2', { first: BLOCKS + 3, count: 2, value: 42 });
  await world.leaveAll();
  await world.directory.allow('c1', ['psk:bob', 'unix']);
}
