import { SheepError } from '../../base/errors.ts';
import type { WantedShape } from '../../config/store-shape.ts';
import type { SnapNode } from '../../farm/snapshots/snap-contents.ts';
import { openSnapshotStore } from '../../farm/snapshots/store.ts';
import {
  DEFAULT_SHAPE,
  findIdentity,
  type StoreShape,
} from '../../farm/snapshots/store-identity.ts';
import { beginWriting } from '../../farm/snapshots/writer.ts';
import type { Checks } from '../checks.ts';
import type { Host } from '../host.ts';
import type { SnapshotParts, WritingParts } from './parts.ts';

/** Where snapshots of a cluster are kept, and what they are of. */
export interface Place extends Omit<SnapshotParts, 'store' | 'writer' | 'nodes'> {
  readonly host: Pick<Host, 'disk' | 'clock' | 'random' | 'log' | 'openPool' | 'holder'>;
  /** The store's folder, which may not be there yet. */
  readonly folder: string;
  readonly nodes: () => readonly SnapNode[];
  readonly checks: Checks;
}

/**
 * Runs `work` with the store; its threads and its memory are gone afterwards.
 * @param create  makes it if it is not there
 * @throws SheepError `ERR_NOT_FOUND` if it is not there; as `openSnapshotStore`
 */
export async function withStore<T>(
  place: Place,
  create: StoreShape | undefined,
  work: (parts: SnapshotParts) => Promise<T>,
): Promise<T> {
  const { host, folder, nodes, ...shared } = place;
  await using pool = await host.openPool();
  const { disk, clock, random, log, holder } = host;
  const how = { disk, clock, random, log, holder, pool, directory: folder };
  await using store = await openSnapshotStore({ ...how, ...(create && { create }) });
  return await work({ ...shared, store, nodes: nodes() });
}

/** The same with the right to change it. @param create  makes it as usual if it is not there */
export function withWriter<T>(
  place: Place,
  create: boolean,
  work: (parts: WritingParts) => Promise<T>,
): Promise<T> {
  return withStore(place, create ? DEFAULT_SHAPE : undefined, async (parts) => {
    await using writer = await beginWriting(parts.store);
    return await work({ ...parts, writer });
  });
}

/** True if snapshots were saved, or a store was made for them. */
export async function hasStore({ host: { disk }, folder }: Place): Promise<boolean> {
  return (await findIdentity(disk, folder)) !== undefined;
}

/**
 * There is a store of this shape, as far as that is said.
 * @throws SheepError `ERR_EXISTS` if there is one of another
 */
export function makeStore(place: Place, wanted: WantedShape): Promise<void> {
  return withStore(place, { ...DEFAULT_SHAPE, ...wanted }, async ({ store: { identity } }) => {
    const { hash, codec } = { ...identity, ...wanted };
    if (hash === identity.hash && codec === identity.codec) return;
    throw new SheepError(
      'ERR_EXISTS',
      `the store of cluster snapshots ${place.folder} is of hash=${identity.hash},` +
        `codec=${identity.codec} and stays so; give --format so, or leave it out`,
      { folder: place.folder },
    );
  });
}
