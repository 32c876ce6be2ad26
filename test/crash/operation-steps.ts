import { expect } from 'vitest';
import type { Disk } from '../../src/contracts/disk.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { FamilyModel } from '../vdi/family-model.ts';
import { type FamilyWorld, objectFiles, STORE } from '../vdi/family-world.ts';
import { type Moment, type Stopped, stopAfterEachStep, type Way } from './steps.ts';

const DELETE = { dryRun: false };

/** Something that is done to VDIs, and stopped anywhere. */
export interface Operation<World extends FamilyWorld> {
  readonly title: string;
  /** The VDIs that `act` meets, closed and stable. */
  readonly prepare: (world: World, model: FamilyModel) => Promise<void>;
  /** What is open and under way when it begins. */
  readonly attach?: (world: World, model: FamilyModel) => Promise<void>;
  readonly act: (world: World) => Promise<unknown>;
  readonly done?: (model: FamilyModel) => void;
  /** Only each so-manieth step: another operation has the same ones. */
  readonly stride?: number;
}

/** What the VDIs were at the moments of one operation. */
export interface States {
  /** Before `attach`: on the medium, whatever happens. */
  readonly stable: FamilyModel;
  readonly before: FamilyModel;
  readonly after: FamilyModel;
}

export interface Walk<World extends FamilyWorld> {
  readonly open: (disk: Disk) => Promise<World>;
  readonly ways: readonly Way[];
  /** Each step in all ways. */
  readonly isThorough?: boolean;
  readonly judge: (left: SimDisk, states: States, moment: Moment<Way>) => Promise<string[]>;
}

/** Does an operation on a recorded disk, and stops it after each step of the disk's log. */
export async function walk<World extends FamilyWorld>(
  operation: Operation<World>,
  { open, judge, ...how }: Walk<World>,
): Promise<Stopped> {
  const { disk, model } = await prepared(operation, open);
  const recording = new RecordingDisk(disk.kill(), disk);
  const world = await open(recording);
  const stable = model.copy();
  await operation.attach?.(world, model);
  const before = model.copy();
  operation.done?.(model);
  const states = { stable, before, after: model };
  const from = recording.log.length;
  await operation.act(world);
  expect(recording.log.length).toBeGreaterThan(from + 1);
  const { stride = 1 } = operation;
  return stopAfterEachStep({ ...how, recording, from, stride }, (left, moment) =>
    judge(left, states, moment),
  );
}

async function prepared<World extends FamilyWorld>(
  { prepare }: Operation<World>,
  open: Walk<World>['open'],
): Promise<{ disk: SimDisk; model: FamilyModel }> {
  const disk = new SimDisk({ directories: [STORE] });
  const model = new FamilyModel();
  const world = await open(disk);
  await prepare(world, model);
  await world.leaveAll();
  await world.settle();
  await world.stop();
  return { disk: disk.powerCut('nothing'), model };
}

/**
 * Holds a world against the states before and after an operation, of which the second must be there
 * once it was answered.
 * @returns what is wrong, and the state that is there
 */
export async function eitherState(
  world: FamilyWorld,
  { before, after }: States,
  answered: boolean,
): Promise<{ found: string[]; state: FamilyModel }> {
  const asAfter = await after.compare(world);
  if (asAfter.length === 0) return { found: [], state: after };
  if (answered) return { found: asAfter, state: after };
  await world.leaveAll();
  const asBefore = await before.compare(world);
  const found = ['neither as before:', ...asBefore, 'nor as after:', ...asAfter];
  return { found: asBefore.length === 0 ? [] : found, state: before };
}

/** Deletes a VDI, or a snapshot of it, as `collie` does, and all that only it needed. */
export async function remove(world: FamilyWorld, name: string, tag?: string): Promise<void> {
  const what = tag === undefined ? DELETE : { ...DELETE, snapshot: tag };
  await world.deletions.finish(await world.volumes.delete(name, what));
}

/** Deletes all of it, in the order of age. */
export async function removeAll(world: FamilyWorld): Promise<void> {
  await world.leaveAll();
  for (const { name } of await world.directory.list()) await remove(world, name);
  for (const { name, tag } of await world.directory.snapshots()) await remove(world, name, tag);
}

/** What is there, where nothing must be; and stops the world. */
export async function whatIsLeft(disk: SimDisk, world: FamilyWorld): Promise<string[]> {
  const left = (await world.directory.all()).map(({ vid, state }) => `${state} ${vid} is left`);
  left.push(...(await objectFiles(disk)));
  await world.stop();
  return left;
}
