import type { Call } from '../../contracts/call.ts';
import {
  type CollectPlan,
  type CollectProgress,
  collect,
  planCollection,
} from '../../farm/snapshots/collect.ts';
import { type Backup, diskOf } from './backups.ts';
import { type KeepRule, type KeepRules, retention } from './retention.ts';
import type { BackupEntry, BackupStore, BackupWriter } from './store.ts';

/** One backup and the rules that keep it; none: it goes. */
export interface Judged {
  readonly backup: Backup;
  readonly by: readonly KeepRule[];
}

/**
 * What the rules say of each backup: each disk's by themselves, disks in the order of their first
 * backup, the newest backup first. A disk is a VDI's name in a cluster.
 * @param backups  in the order in which they were made
 */
export function judge(backups: readonly Backup[], rules: KeepRules): Judged[] {
  const disks = Map.groupBy(backups, diskOf);
  return [...disks.values()].flatMap((ofOne) => {
    const dated = ofOne.map((backup) => ({ backup, timeMs: backup.entry.timeMs }));
    return retention(dated, rules).map(({ backup: { backup }, by }) => ({ backup, by }));
  });
}

/** What is freed, and what stays, in bytes. */
export type Freed = CollectPlan;

export interface RemovalOptions extends Call {
  /** As of `collect`. */
  readonly graceMs: number;
  readonly progress: (done: CollectProgress) => void;
}

/** What the removal of these would free; changes nothing. @throws SheepError as `collect` */
export function planRemoval(
  store: BackupStore,
  entries: readonly BackupEntry[],
  options: RemovalOptions,
): Promise<Freed> {
  return planCollection(store, { ...options, without: entries });
}

/**
 * Removes backups, all of them before anything is freed: stopped anywhere, what is left of the store
 * is sound, and the next removal frees what this one did not.
 * @throws SheepError as `collect`, before anything is changed if what stays cannot be read
 */
export async function remove(
  store: BackupStore,
  writer: BackupWriter,
  entries: readonly BackupEntry[],
  options: RemovalOptions,
): Promise<Freed> {
  await planRemoval(store, entries, options);
  for (const entry of entries) await writer.cancelSnap(entry);
  return collect(writer, options);
}
