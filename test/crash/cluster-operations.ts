import { checkStore } from '../../src/farm/snapshots/check.ts';
import type { ClusterWorld } from '../app-unit/cluster-world.ts';
import { all } from '../farm/snapshots/backups.ts';
import { create, type FamilyModel, write } from '../vdi/family-model.ts';
import { OBJECT_BLOCKS } from '../vdi/family-world.ts';
import type { Operation } from './operation-steps.ts';

/** Something that is done with VDIs beside snapshots of the cluster, or with these. */
export interface ClusterOperation extends Operation<ClusterWorld> {
  /** Tags of the snapshots that are there before and after, in the order of the alphabet. */
  readonly tags: readonly [before: string, after: string];
}

/** How large base is. */
export const BLOCKS = OBJECT_BLOCKS + 5;

/** other; and base with a snapshot, changed since. */
export async function otherAndBase(world: ClusterWorld, model: FamilyModel): Promise<void> {
  await create(world, model, 'other', 20);
  await write(world, model, 'other', { first: 1, count: 9, value: 5 });
  await create(world, model, 'base', BLOCKS);
  for (const first of [0, OBJECT_BLOCKS]) {
    await write(world, model, 'base', { first, count: 3, value: 10 + first });
  }
  await world.volumes.snapshot('base', 'one');
  model.snapshot('base', 'one');
  await write(world, model, 'base', { first: 2, count: 2, value: 20 });
}

/** Which snapshots there are. Clocks of these worlds begin anew, so their order says nothing. */
export function tagsOf({ parts: { store } }: ClusterWorld): string {
  const tags = store.snaps().map(({ tag }) => tag);
  return tags.sort().join(' ');
}

/** Whether these are the snapshots that may be there, and all that they need is. */
export async function tagsAndDamage(
  world: ClusterWorld,
  { tags: [before, after] }: ClusterOperation,
  answered: boolean,
): Promise<string[]> {
  const found = (await all(checkStore(world.parts.store))).map(({ message }) => message);
  const shown = tagsOf(world);
  if (shown !== after && (answered || shown !== before)) found.push(`there are ${shown}`);
  return found;
}
