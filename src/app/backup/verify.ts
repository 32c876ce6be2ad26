import type { Call } from '../../contracts/call.ts';
import { type CheckFinding, type CheckProgress, checkStore } from '../../farm/snapshots/check.ts';
import type { BackupEntry, BackupStore } from './store.ts';

export type VerifyProgress = (done: CheckProgress) => void;

export interface VerifyOptions extends Call {
  readonly entries: readonly BackupEntry[];
  /** How many of a hundred slices are read, drawn by chance. */
  readonly samplePercent: number;
  readonly progress: VerifyProgress;
}

/** Something that is not as it should be, as JSON. */
export interface FindingView {
  readonly kind: CheckFinding['kind'];
  /** One sentence. */
  readonly message: string;
  /** The object that is damaged or missing, by its digits. */
  readonly object?: string;
  /** The ID of the backup, `NAME@TAG` that it is of, and which bytes of that disk are lost. */
  readonly backup?: string;
  readonly source?: string;
  readonly at?: number;
  readonly length?: number;
}

/** Proves what backups need; yields what is wrong. */
export async function* verifyBackups(
  store: BackupStore,
  { entries, ...options }: VerifyOptions,
): AsyncGenerator<FindingView> {
  const found = checkStore(store, { ...options, snaps: entries });
  for await (const { snap, disk, ...finding } of found) {
    yield {
      ...finding,
      ...(snap && { backup: snap.id }),
      ...(disk && { source: `${disk.name}@${disk.snapshot}` }),
    };
  }
}
