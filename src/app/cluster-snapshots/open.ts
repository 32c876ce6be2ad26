import { SheepError } from '../../base/errors.ts';
import type { WantedShape } from '../../config/store-shape.ts';
import type { SnapNode } from '../../farm/snapshots/snap-contents.ts';
import { openSnapshotStore } from '../../farm/snapshots/store.ts';
import { DEFAULT_SHAPE, findIdentity } from '../../farm/snapshots/store-identity.ts';
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

/** The store while something is done with it. */
export interface OpenStore extends AsyncDisposable {
  readonly parts: SnapshotParts;
}

/**
 * Opens the store; disposing it frees its threads and its memory.
 * @param create  makes it if it is not there, as usual where nothing else is said
 * @returns undefined if it is not there
 * @throws SheepError as `openSnapshotStore`
 */
export function openStore(place: Place, create: WantedShape): Promise<OpenStore>;
export function openStore(place: Place, create?: WantedShape): Promise<OpenStore | undefined>;
export async function openStore(
  place: Place,
  create?: WantedShape,
): Promise<OpenStore | undefined> {
  const { host, folder, nodes, ...shared } = place;
  const { disk, clock, random, log, holder } = host;
  if (create === undefined && (await findIdentity(disk, folder)) === undefined) return undefined;
  await using opening = new AsyncDisposableStack();
  const pool = opening.use(await host.openPool());
  const how = { disk, clock, random, log, holder, pool, directory: folder };
  const shape = create && { create: { ...DEFAULT_SHAPE, ...create } };
  const store = opening.use(await openSnapshotStore({ ...how, ...shape }));
  const owned = opening.move();
  return {
    parts: { ...shared, store, nodes: nodes() },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * Runs `work` with the right to change the store.
 * @throws SheepError `ERR_BUSY` if another program has it
 */
export async function withWriter<T>(
  { parts }: OpenStore,
  work: (parts: WritingParts) => Promise<T>,
): Promise<T> {
  await using writer = await beginWriting(parts.store);
  return await work({ ...parts, writer });
}

/**
 * There is a store of this shape, as far as that is said.
 * @throws SheepError `ERR_EXISTS` if there is one of another
 */
export async function makeStore(place: Place, wanted: WantedShape): Promise<void> {
  await using opened = await openStore(place, wanted);
  const { identity } = opened.parts.store;
  const { hash, codec } = { ...identity, ...wanted };
  if (hash === identity.hash && codec === identity.codec) return;
  throw new SheepError(
    'ERR_EXISTS',
    `the store of cluster snapshots ${place.folder} is of hash=${identity.hash},` +
      `codec=${identity.codec} and stays so; give --format so, or leave it out`,
    { folder: place.folder },
  );
}
