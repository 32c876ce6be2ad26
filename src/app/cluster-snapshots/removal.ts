import type { Call } from '../../contracts/call.ts';
import type { FreedView } from '../admin-cluster-views.ts';
import { type Freed, planRemoval, remove } from '../backup/prune.ts';
import { findEntry } from './find.ts';
import type { Amount } from './operations.ts';
import type { SnapshotParts, WritingParts } from './parts.ts';

/** Nobody else writes there: nothing is young that somebody is about to need. */
const GRACE_MS = 0;

type Progress = (done: Amount) => void;

/**
 * Removes a snapshot of the cluster, and frees what no other one needs. Stopped anywhere, the others
 * are whole, and the next removal or collection frees what this one did not.
 * @throws SheepError `ERR_NOT_FOUND`; `ERR_CORRUPT`, `ERR_MISSING` if another one cannot be read: then
 *         nothing is changed, because nobody knows what it needs
 */
export async function deleteSnapshot(
  { store, writer }: WritingParts,
  tag: string,
  call: Call,
  progress: Progress,
): Promise<FreedView> {
  const entries = [findEntry(store, tag)];
  return freedView(false, await remove(store, writer, entries, optionsOf(call, progress)));
}

/** What that would free; changes nothing. @throws SheepError as `deleteSnapshot` */
export async function planDeletion(
  { store }: SnapshotParts,
  tag: string,
  call: Call,
): Promise<FreedView> {
  const entries = [findEntry(store, tag)];
  return freedView(true, await planRemoval(store, entries, optionsOf(call)));
}

/**
 * Frees what no snapshot needs: what saves, loads and deletions that were stopped have left.
 * @throws SheepError as `deleteSnapshot`
 */
export async function collectSnapshots(
  { store, writer }: WritingParts,
  call: Call,
  progress: Progress,
): Promise<FreedView> {
  return freedView(false, await remove(store, writer, [], optionsOf(call, progress)));
}

/** What that would free; changes nothing. @throws SheepError as `deleteSnapshot` */
export async function planCollecting({ store }: SnapshotParts, call: Call): Promise<FreedView> {
  return freedView(true, await planRemoval(store, [], optionsOf(call)));
}

function optionsOf(call: Call, progress: Progress = () => undefined) {
  return {
    ...call,
    graceMs: GRACE_MS,
    progress: ({ copiedBytes, totalBytes }: { copiedBytes: number; totalBytes: number }) =>
      progress({ doneBytes: copiedBytes, totalBytes }),
  };
}

function freedView(dryRun: boolean, { freedBytes, liveBytes, keptBytes }: Freed): FreedView {
  return { dryRun, freedBytes, liveBytes, keptBytes };
}
