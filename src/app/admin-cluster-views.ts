import type { CodecName, HashName } from '../base/content.ts';
import type { ErrorLine } from './admin-views.ts';
import type { Loaded } from './cluster-snapshots/load.ts';
import type { Amount, RunningJob } from './cluster-snapshots/operations.ts';
import type { ProgressLine } from './progress-lines.ts';

/** What the admin API answers about snapshots of the cluster, as JSON; `collie` reads the same types. */

/** A snapshot in `GET /v1/cluster/snapshots`. */
export interface ClusterSnapshotView {
  readonly tag: string;
  /** The digits of its name in the store. */
  readonly id: string;
  /** The one instant that all of it is of, in wall milliseconds since 1970. */
  readonly timeMs: number;
  /** How many of each it holds, and their sizes together. */
  readonly vdis: number;
  readonly snapshots: number;
  readonly sizeBytes: number;
}

/** `GET /v1/cluster/snapshots`. */
export interface ClusterSnapshotListView {
  /** The store that they are in; absent: none was saved yet. */
  readonly store?: {
    readonly storeId: string;
    readonly hash: HashName;
    readonly codec: CodecName;
  };
  /** The oldest first. */
  readonly snapshots: readonly ClusterSnapshotView[];
  /** What the store's log names and what cannot be read. */
  readonly lost: readonly {
    readonly tag: string;
    readonly id: string;
    readonly timeMs: number;
    /** One sentence. */
    readonly flaw: string;
  }[];
  /** What is done with them now. */
  readonly running: readonly RunningJob[];
}

/** What answers with lines that take their time say before their result. */
export type OperationLine<Result> = ProgressLine<Amount, Result> | ErrorLine;

/** A working VDI or a snapshot in a snapshot of the cluster. */
export interface SavedDiskView {
  /** `NAME`, of a snapshot `NAME@TAG`. */
  readonly export: string;
  readonly vid: number;
  readonly createdMs: number;
  readonly sizeBytes: number;
  readonly objectBytes: number;
  readonly allow: readonly string[];
  /** By whole slices: what is not zeroes. */
  readonly contentBytes: number;
  /** What of it takes space in the store, and of that what nothing else in the store needs. */
  readonly neededBytes: number;
  readonly exclusiveBytes: number;
}

/** What is freed by a deletion or a collection, and what stays, in bytes of the store. */
export interface FreedView {
  readonly dryRun: boolean;
  readonly freedBytes: number;
  /** What snapshots need. */
  readonly liveBytes: number;
  /** What stays beside it, because it shares files with that. */
  readonly keptBytes: number;
}

/** `POST /v1/cluster/check`: a line each. */
export type ClusterCheckLine =
  | ({ readonly is: 'progress' /** What is being read. */; readonly what: string } & Amount)
  | { readonly is: 'flaw'; readonly flaw: ClusterFlawView }
  | { readonly is: 'end'; readonly result: ClusterCheckedView }
  | ErrorLine;

/** Something that is not as it should be. */
export interface ClusterFlawView {
  /** One sentence, with the object and what it is of. */
  readonly message: string;
  /** The object that is damaged or missing. */
  readonly object?: string;
  /** The snapshot of the cluster that it is in; absent: it is in the working directory. */
  readonly snapshot?: string;
  /** The export name of the VDI or snapshot, and which bytes of it are lost. */
  readonly export?: string;
  readonly at?: number;
  readonly length?: number;
}

/** How a check of the cluster ended. */
export interface ClusterCheckedView {
  readonly snapshots: number;
  readonly exports: number;
  readonly readBytes: number;
  readonly samplePercent: number;
  /** Also of those that were too many to be told. */
  readonly flawCount: number;
}

/** What a save came to. */
export interface SavedView extends ClusterSnapshotView {
  /** What was read of the disks, and of that what was not in the store before, and what was. */
  readonly readBytes: number;
  readonly newBytes: number;
  readonly sharedBytes: number;
  /** What the new of it takes in the store. */
  readonly storedBytes: number;
}

/** What a load did, or would do. */
export interface LoadedView extends Loaded {
  readonly tag: string;
  readonly dryRun: boolean;
}

/** The result of `GET /v1/cluster/snapshots/TAG`, which says before it how many bytes of disks it has looked at. */
export interface ClusterSnapshotInfoView extends ClusterSnapshotView {
  readonly nodes: readonly {
    readonly nodeId: string;
    readonly version: string;
    readonly store: string;
    readonly nbd: readonly string[];
  }[];
  readonly clusterId: string;
  /** Parents first. */
  readonly disks: readonly SavedDiskView[];
  /** Of all of it, in the store; each thing once. */
  readonly contentBytes: number;
  readonly neededBytes: number;
  readonly exclusiveBytes: number;
}
