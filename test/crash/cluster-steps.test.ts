import { expect, test } from 'vitest';
import { loadSnapshot } from '../../src/app/cluster-snapshots/load.ts';
import type { LoadOptions } from '../../src/app/cluster-snapshots/load-plan.ts';
import {
  collectSnapshots,
  deleteSnapshot,
  planCollecting,
} from '../../src/app/cluster-snapshots/removal.ts';
import { beginWriting } from '../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import { saveNow } from '../app-unit/cluster-saves.ts';
import { type ClusterWorld, openCluster } from '../app-unit/cluster-world.ts';
import { content } from '../farm/snapshots/store-world.ts';
import { type FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, OBJECT_BLOCKS } from '../vdi/family-world.ts';
import {
  BLOCKS,
  type ClusterOperation,
  otherAndBase,
  tagsAndDamage,
  tagsOf,
} from './cluster-operations.ts';
import { eitherState, remove, type States, walk } from './operation-steps.ts';
import { WAYS } from './steps.ts';

/** other, which nothing is about; base with a snapshot, saved as mon, changed, and saved as tue. */
async function cluster(world: ClusterWorld, model: FamilyModel): Promise<void> {
  await otherAndBase(world, model);
  await saveNow(world, 'mon');
  await write(world, model, 'base', { first: 9, count: 2, value: 30 });
  await saveNow(world, 'tue');
  await world.leaveAll();
}

async function load({ parts }: ClusterWorld, tag: string, options: LoadOptions): Promise<void> {
  const entry = parts.store.snaps().find((snap) => snap.tag === tag);
  const snap = await parts.store.readSnap(entry!.name);
  await loadSnapshot(parts, snap, options, {}, () => undefined);
}

async function writing(world: ClusterWorld, act: typeof collectSnapshots): Promise<void> {
  await using writer = await beginWriting(world.parts.store);
  await act({ ...world.parts, writer }, {}, () => undefined);
}

/** base as it was when it was saved first. */
function asSaved(model: FamilyModel, name: string): void {
  model.create(name, BLOCKS);
  for (const first of [0, OBJECT_BLOCKS]) model.fill(name, first, 3, 10 + first);
  model.snapshot(name, 'one');
  model.fill(name, 2, 2, 20);
}

/**
 * What is done with snapshots of the cluster, stopped after every step of the disk's log, by a kill
 * and by power cuts. What is found is all of it or none: no VDI is half there, none that it is not
 * about is touched, nothing saved is lost; it can be done again, and then nothing is left over.
 */
const OPERATIONS: readonly ClusterOperation[] = [
  {
    title: 'a load of what is gone',
    prepare: async (world, model) => {
      await cluster(world, model);
      await remove(world, 'base');
      model.delete('base');
      await remove(world, 'base', 'one');
      model.delete('base@one');
    },
    act: (world) => load(world, 'mon', { vdi: 'base' }),
    done: (model) => asSaved(model, 'base'),
    tags: ['mon tue', 'mon tue'],
  },
  {
    title: 'a load that replaces a VDI whose snapshot is there',
    prepare: cluster,
    act: (world) => load(world, 'mon', { vdi: 'base', replace: true }),
    done: (model) => asSaved(model, 'base'),
    tags: ['mon tue', 'mon tue'],
  },
  {
    title: 'a load under another name',
    prepare: cluster,
    act: (world) => load(world, 'mon', { vdi: 'base', as: 'new' }),
    done: (model) => asSaved(model, 'new'),
    tags: ['mon tue', 'mon tue'],
  },
  {
    title: 'the deletion of a snapshot of the cluster',
    prepare: cluster,
    act: (world) =>
      writing(world, (parts, call, progress) => deleteSnapshot(parts, 'mon', call, progress)),
    tags: ['mon tue', 'tue'],
  },
  {
    title: 'a collection of what a save that was stopped has left',
    prepare: async (world, model) => {
      await cluster(world, model);
      await using writer = await beginWriting(world.parts.store);
      for (let seed = 1; seed < 9; seed += 1) await writer.put('data', content(seed));
      await writer.barrier();
    },
    act: (world) => writing(world, collectSnapshots),
    tags: ['mon tue', 'mon tue'],
  },
];

/** Somebody is at work on what nothing is about. */
const attach = async (world: ClusterWorld) => (await world.device('other')).flush();

async function judge(
  disk: SimDisk,
  operation: ClusterOperation,
  states: States,
  answered: boolean,
): Promise<string[]> {
  const { after } = states;
  const world = await openCluster(disk);
  const { found, state } = await eitherState(world, states, answered);
  found.push(...(await tagsAndDamage(world, operation, answered)));
  await world.leaveAll();
  await world.settle();
  found.push(...(await leaks(disk, world)));
  if (found.length > 0) return found;

  // Done again, or for the first time.
  const isDone = state === after && tagsOf(world) === operation.tags[1];
  if (!isDone) await operation.act(world);
  await world.settle();
  found.push(...(await leaks(disk, world)), ...(await after.compare(world)));
  await world.leaveAll();
  const cut = disk.powerCut('nothing');
  disk.halt();
  const next = await openCluster(cut);
  found.push(...(await after.compare(next)), ...(await tagsAndDamage(next, operation, true)));
  await next.settle();
  found.push(...(await leaks(cut, next)));
  await writing(next, collectSnapshots);
  const { freedBytes } = await planCollecting(next.parts, {});
  if (freedBytes > 0) found.push(`a collection left ${freedBytes} bytes`);
  await next.stop();
  return found;
}

test.for(OPERATIONS.map((operation) => [operation.title, operation] as const))(
  '%s, stopped after any step, happened or did not, and can be done again',
  { timeout: 300_000 },
  async ([, operation]) => {
    const { found, stops } = await walk(
      { ...operation, attach },
      {
        ...{ open: openCluster, ways: WAYS },
        judge: (left, states, { answered }) => judge(left, operation, states, answered),
      },
    );
    expect(found).toEqual([]);
    expect(stops).toBeGreaterThan(50);
  },
);
