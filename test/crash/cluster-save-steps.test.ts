import { expect, test } from 'vitest';
import { newestSnap } from '../../src/app/cluster-snapshots/bases.ts';
import { releaseHeld } from '../../src/app/cluster-snapshots/held.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import { heldIn, saveNow, wrongIn } from '../app-unit/cluster-saves.ts';
import { type ClusterWorld, openCluster } from '../app-unit/cluster-world.ts';
import { type FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS } from '../vdi/family-world.ts';
import { type ClusterOperation, otherAndBase, tagsAndDamage } from './cluster-operations.ts';
import {
  eitherState,
  remove,
  removeAll,
  type States,
  walk,
  whatIsLeft,
} from './operation-steps.ts';
import { type Moment, WAYS, type Way } from './steps.ts';

/** base with a snapshot and a clone of it, and other, of which there is nothing. */
async function cluster(world: ClusterWorld, model: FamilyModel): Promise<void> {
  await otherAndBase(world, model);
  await world.volumes.clone({ name: 'base', snapshot: 'one' }, 'web');
  model.clone('base@one', 'web');
  await write(world, model, 'web', { first: OBJECT_BLOCKS + 1, count: 2, value: 40 });
}

/** And saved, and then changed: of the clone nothing, of base a block, and its whole second object. */
async function saved(world: ClusterWorld, model: FamilyModel): Promise<void> {
  await cluster(world, model);
  await world.leaveAll();
  await saveNow(world, 'mon');
  await write(world, model, 'base', { first: 9, count: 2, value: 30 });
  await write(world, model, 'base', { first: OBJECT_BLOCKS, count: 5, value: 31 });
}

const save = (world: ClusterWorld) => saveNow(world, 'tue');

/**
 * What freezes the cluster and lets go of what it froze, stopped after every step of the disk's log,
 * by a kill and by power cuts. Every VDI is whole; the snapshot is there as a whole, or is not; what
 * was frozen for it is let go by the next start; the next save works, and all can still be deleted.
 */
const OPERATIONS: readonly ClusterOperation[] = [
  { title: 'a first save', prepare: cluster, act: save, tags: ['', 'tue'], stride: 4 },
  {
    title: 'a save of what changed since the last',
    prepare: saved,
    act: save,
    tags: ['mon', 'mon tue'],
    stride: 4,
  },
  {
    title: 'a save while somebody is at work',
    prepare: saved,
    attach: async (world, model) => {
      await write(world, model, 'base', { first: 5, count: 2, value: 51 });
      await write(world, model, 'web', { first: 0, count: 1, value: 52 });
      for (const name of ['base', 'web']) await (await world.device(name)).flush();
    },
    act: save,
    tags: ['mon', 'mon tue'],
  },
  {
    title: 'the deletion of a VDI that was saved',
    prepare: saved,
    act: (world) => remove(world, 'base'),
    done: (model) => model.delete('base'),
    tags: ['mon', 'mon'],
  },
  {
    title: 'a rollback of a VDI that was saved',
    prepare: saved,
    act: async (world) => {
      await world.volumes.rollback('base', 'one');
      await world.settle();
    },
    done: (model) => model.rollback('base', 'one'),
    tags: ['mon', 'mon'],
  },
  {
    title: 'a start after a save that was killed',
    prepare: async (world, model) => {
      await saved(world, model);
      using _frozen = await world.volumes.freezeAll(world.parts.clock);
    },
    act: async (world) => {
      await releaseHeld(world.parts);
      await world.settle();
    },
    tags: ['mon', 'mon'],
  },
];

async function judge(
  disk: SimDisk,
  operation: ClusterOperation,
  states: States,
  { answered, step }: Moment<Way>,
): Promise<string[]> {
  const world = await openCluster(disk);
  const { found, state: model } = await eitherState(world, states, answered);
  found.push(...(await snapsAre(world, operation, states.before, answered)));
  // As at a start.
  await releaseHeld(world.parts);
  await world.settle();
  found.push(...(await notNamed(world)), ...(await leaks(disk, world)));
  if (found.length > 0) return found;

  const { snap } = await saveNow(world, 'next');
  found.push(...(await wrongIn(world.parts.store, snap, model)));
  await world.leaveAll();
  await world.settle();
  found.push(...(await leaks(disk, world)));
  const held = (await heldIn(world)).filter((each) => each.includes(' held '));
  if (held.length !== model.names.length) found.push(`there are ${held.join(', ')}`);

  // With a second cut, and until nothing is left: now and then.
  if (!answered && step % 5 !== 0) return found;
  const cut = disk.powerCut('nothing');
  disk.halt();
  const next = await openCluster(cut);
  const again = next.parts.store.snaps().find(({ tag }) => tag === 'next');
  if (again === undefined) return [...found, 'the next snapshot is not there after a power cut'];
  const kept = await next.parts.store.readSnap(again.name);
  found.push(...(await wrongIn(next.parts.store, kept, model)), ...(await model.compare(next)));
  await removeAll(next);
  await next.settle();
  return [...found, ...(await whatIsLeft(cut, next))];
}

/** Which snapshots there are; and that of the save, if it is there, is all that there was. */
async function snapsAre(
  world: ClusterWorld,
  operation: ClusterOperation,
  model: FamilyModel,
  answered: boolean,
): Promise<string[]> {
  const found = await tagsAndDamage(world, operation, answered);
  const { store } = world.parts;
  const saved = store.snaps().find(({ tag }) => tag === 'tue');
  if (saved === undefined) return found;
  return [...found, ...(await wrongIn(store, await store.readSnap(saved.name), model))];
}

/** What is held and that the newest snapshot does not name. */
async function notNamed({ parts, directory }: ClusterWorld): Promise<string[]> {
  const newest = newestSnap(parts.store);
  const disks = newest === undefined ? [] : (await parts.store.readSnap(newest.name)).disks;
  const named = new Set(disks.map(({ vid }) => vid));
  return (await directory.held())
    .filter(({ vid }) => !named.has(vid))
    .map(({ name, vid }) => `${name} (${vid}) is held for nothing`);
}

test.for(OPERATIONS.map((operation) => [operation.title, operation] as const))(
  '%s, stopped after any step, leaves every VDI whole and nothing held',
  { timeout: 300_000 },
  async ([, operation]) => {
    const { found, stops } = await walk(operation, {
      ...{ open: openCluster, ways: WAYS },
      judge: (left, states, moment) => judge(left, operation, states, moment),
    });
    expect(found).toEqual([]);
    expect(stops).toBeGreaterThan(15);
  },
);
