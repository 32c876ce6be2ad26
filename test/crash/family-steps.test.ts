import { expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import { create, type FamilyModel, write } from '../vdi/family-model.ts';
import {
  differences,
  type FamilyWorld,
  leaks,
  OBJECT_BLOCKS,
  openWorld,
} from '../vdi/family-world.ts';
import {
  eitherState,
  type Operation,
  remove,
  removeAll,
  type States,
  walk,
  whatIsLeft,
} from './operation-steps.ts';
import { LOSES_NOTHING, WAYS } from './steps.ts';

/**
 * Every operation that changes a family, stopped after every step of the disk's log, by a kill and
 * by power cuts that keep nothing, everything or some of what was not synced. What is found is all
 * of it or none, block by block, in every member; nothing is left that nobody can reach; and all of
 * it can still be deleted.
 */
interface FamilyOperation extends Operation<FamilyWorld> {
  /** A change of data is there block by block, and not as one: until it is answered, or for good. */
  readonly blockwise?: 'until-answered' | 'always';
}

const BLOCKS = 3 * OBJECT_BLOCKS + 5;
const DELETE = { dryRun: false };

/** base: 4 objects; base@one, of which object 1 and part of 2 were changed later, and 3 freed. */
async function family(world: FamilyWorld, model: FamilyModel): Promise<void> {
  await create(world, model, 'base', BLOCKS);
  for (const index of [0, 1, 2, 3]) {
    const first = index * OBJECT_BLOCKS;
    await write(world, model, 'base', { first, count: 3, value: 10 + index });
  }
  await world.volumes.snapshot('base', 'one');
  model.snapshot('base', 'one');
  await write(world, model, 'base', { first: OBJECT_BLOCKS + 1, count: 2, value: 21 });
  await write(world, model, 'base', { first: 2 * OBJECT_BLOCKS, count: 1, value: 22 });
  const device = await world.device('base');
  await device.trim(3 * OBJECT_BLOCKS * BLOCK_BYTES, 5 * BLOCK_BYTES, { durable: false });
  model.fill('base', 3 * OBJECT_BLOCKS, 5, 0);
  await world.leaveAll();
}

async function snapshot(world: FamilyWorld, model: FamilyModel, name: string, tag: string) {
  await world.volumes.snapshot(name, tag);
  model.snapshot(name, tag);
}

async function clone(world: FamilyWorld, model: FamilyModel, from: string, target: string) {
  const [name = '', tag = ''] = from.split('@');
  await world.volumes.clone({ name, snapshot: tag }, target);
  model.clone(from, target);
}

/** And a clone of it, changed, with a snapshot of its own, of which there is a clone too. */
async function clones(world: FamilyWorld, model: FamilyModel): Promise<void> {
  await family(world, model);
  await clone(world, model, 'base@one', 'c1');
  await write(world, model, 'c1', { first: 1, count: 1, value: 31 });
  await snapshot(world, model, 'c1', 'two');
  await clone(world, model, 'c1@two', 'c2');
  await write(world, model, 'c2', { first: 2, count: 2, value: 41 });
}

const attachBase = async (world: FamilyWorld) => void (await world.device('base'));

const OPERATIONS: readonly FamilyOperation[] = [
  {
    title: 'a create',
    prepare: family,
    act: ({ volumes }) => volumes.create({ name: 'new', sizeBytes: 2 ** 21, objectBytes: 2 ** 20 }),
    done: (model) => model.create('new', 2 * OBJECT_BLOCKS),
  },
  {
    title: 'a snapshot of a VDI that nobody uses',
    prepare: family,
    act: ({ volumes }) => volumes.snapshot('base', 'new'),
    done: (model) => model.snapshot('base', 'new'),
  },
  {
    title: 'a snapshot of a VDI in use, with writes that no flush has covered',
    prepare: family,
    attach: async (world, model) => {
      await attachBase(world);
      await write(world, model, 'base', { first: 5, count: 2, value: 51 });
      await write(world, model, 'base', { first: OBJECT_BLOCKS, count: 1, value: 52 });
      await (await world.device('base')).flush();
    },
    act: ({ volumes }) => volumes.snapshot('base', 'new'),
    done: (model) => model.snapshot('base', 'new'),
  },
  {
    title: 'a clone',
    prepare: family,
    act: ({ volumes }) => volumes.clone({ name: 'base', snapshot: 'one' }, 'new'),
    done: (model) => model.clone('base@one', 'new'),
  },
  {
    title: 'a clone of a clone',
    prepare: clones,
    act: ({ volumes }) => volumes.clone({ name: 'c1', snapshot: 'two' }, 'new'),
    done: (model) => model.clone('c1@two', 'new'),
  },
  {
    title: 'a rollback',
    prepare: family,
    act: async ({ volumes, settle }) => {
      await volumes.rollback('base', 'one');
      await settle();
    },
    done: (model) => model.rollback('base', 'one'),
  },
  {
    title: 'a rollback that brings a deleted VDI back',
    prepare: async (world, model) => {
      await family(world, model);
      await remove(world, 'base');
      model.delete('base');
    },
    act: ({ volumes }) => volumes.rollback('base', 'one'),
    done: (model) => model.rollback('base', 'one'),
  },
  {
    title: 'growing',
    prepare: family,
    act: ({ volumes }) => volumes.resize('base', 4 * 2 ** 20, DELETE),
    done: (model) => model.resize('base', 4 * OBJECT_BLOCKS),
  },
  {
    title: 'shrinking, into an object that is inherited',
    prepare: family,
    act: ({ volumes }) => volumes.resize('base', 2 * BLOCK_BYTES, DELETE),
    done: (model) => model.resize('base', 2),
  },
  {
    title: 'shrinking, into an object of its own',
    prepare: family,
    act: ({ volumes }) => volumes.resize('base', 2 ** 20 + 2 * BLOCK_BYTES, DELETE),
    done: (model) => model.resize('base', OBJECT_BLOCKS + 2),
  },
  {
    title: 'the deletion of a snapshot, of which its VDI needs a part',
    prepare: family,
    act: (world) => remove(world, 'base', 'one'),
    done: (model) => model.delete('base@one'),
  },
  {
    title: 'the deletion of a snapshot whose VDI has just let go of it, with no flush since',
    prepare: family,
    attach: async (world, model) => {
      await write(world, model, 'base', { first: 0, count: OBJECT_BLOCKS, value: 71 });
      await write(world, model, 'base', { first: 2 * OBJECT_BLOCKS, count: 3, value: 72 });
      const device = await world.device('base');
      await device.trim(2 ** 20, 2 ** 20, { durable: false });
      model.fill('base', OBJECT_BLOCKS, OBJECT_BLOCKS, 0);
    },
    act: (world) => remove(world, 'base', 'one'),
    done: (model) => model.delete('base@one'),
    blockwise: 'always',
  },
  {
    title: 'the deletion of a VDI, of which its snapshot needs nothing',
    prepare: family,
    act: (world) => remove(world, 'base'),
    done: (model) => model.delete('base'),
  },
  {
    title: 'the deletion of a snapshot in the middle of a family',
    prepare: clones,
    act: (world) => remove(world, 'c1', 'two'),
    done: (model) => model.delete('c1@two'),
  },
  {
    title: 'the deletion of the last that needs a ghost and its ghost',
    prepare: async (world, model) => {
      await clones(world, model);
      await world.leaveAll();
      for (const name of ['base', 'c1']) {
        await remove(world, name);
        model.delete(name);
      }
      await remove(world, 'base', 'one');
      model.delete('base@one');
      await remove(world, 'c1', 'two');
      model.delete('c1@two');
    },
    act: (world) => remove(world, 'c2'),
    done: (model) => model.delete('c2'),
  },
  {
    title:
      'the deletion of a snapshot over ghosts whose VDI has just let go of some, with no flush since',
    prepare: async (world, model) => {
      await family(world, model);
      await snapshot(world, model, 'base', 'two');
      await write(world, model, 'base', { first: 1, count: 1, value: 81 });
      await snapshot(world, model, 'base', 'three');
      for (const tag of ['one', 'two']) {
        await remove(world, 'base', tag);
        model.delete(`base@${tag}`);
      }
    },
    attach: async (world, model) => {
      await world.settle(); // so that they rest
      const first = OBJECT_BLOCKS;
      await write(world, model, 'base', { first, count: OBJECT_BLOCKS, value: 82 });
      const device = await world.device('base');
      await device.trim(0, 2 ** 20, { durable: false });
      model.fill('base', 0, OBJECT_BLOCKS, 0);
    },
    act: (world) => remove(world, 'base', 'three'),
    done: (model) => model.delete('base@three'),
    blockwise: 'always',
  },
  {
    title: 'the first write to a leaf and an object of the parent',
    prepare: family,
    attach: attachBase,
    act: async (world) => {
      const device = await world.device('base');
      const bytes = new Uint8Array(2 * BLOCK_BYTES);
      new Uint32Array(bytes.buffer).fill(61);
      await device.write(BLOCK_BYTES, bytes, { durable: true });
    },
    done: (model) => model.fill('base', 1, 2, 61),
    blockwise: 'until-answered',
  },
  {
    title: 'the first change of a clone: a trim of the parent’s object',
    prepare: clones,
    attach: async (world) => void (await world.device('c1')),
    act: async (world) => {
      const device = await world.device('c1');
      await device.trim(0, 2 ** 20 + BLOCK_BYTES, { durable: true });
    },
    done: (model) => model.fill('c1', 0, OBJECT_BLOCKS + 1, 0),
    blockwise: 'until-answered',
  },
];

/** What is wrong with the family that a stop has left. */
async function judge(
  disk: SimDisk,
  operation: FamilyOperation,
  states: States,
  answered: boolean,
): Promise<string[]> {
  const world = await openWorld(disk);
  const found = await compared(world, operation, states, answered);
  await world.settle();
  found.push(...(await leaks(disk, world)));
  found.push(...(await compared(world, operation, states, answered)));
  if (found.length > 0) return found;
  await removeAll(world);
  return whatIsLeft(disk, world);
}

/** Against what the answered operation must show; blockwise against both states. */
async function compared(
  world: FamilyWorld,
  { blockwise }: FamilyOperation,
  states: States,
  answered: boolean,
): Promise<string[]> {
  if (blockwise === undefined || (answered && blockwise !== 'always')) {
    return (await eitherState(world, states, answered)).found;
  }
  const { after } = states;
  const before = blockwise === 'always' ? states.stable : states.before;
  const shown = (await world.volumes.list()).map(({ name }) => name).sort();
  const found: string[] = [];
  for (const name of shown) {
    const either = [before, after]
      .filter((model) => model.has(name))
      .map((model) => model.of(name));
    const device = await world.device(name);
    const allowed = (block: number) => either.map((contents) => contents[block] ?? 0);
    found.push(...(await differences(device, either[0]?.length ?? 0, allowed)));
  }
  const right = answered ? [after] : [before, after];
  const named = right.map((model) => [...model.names, ...model.snapshots].sort().join());
  if (!named.includes(shown.join())) found.push(`there are ${shown.join(' ')}`);
  return found;
}

test.for(OPERATIONS.map((operation) => [operation.title, operation] as const))(
  '%s, stopped after any step, happened or did not',
  { timeout: 300_000 },
  async ([, operation]) => {
    const { found, stops } = await walk(operation, {
      ...{ open: openWorld, ways: [...WAYS, LOSES_NOTHING], isThorough: true },
      judge: (left, states, { answered }) => judge(left, operation, states, answered),
    });
    expect(found).toEqual([]);
    expect(stops).toBeGreaterThan(15);
  },
);
