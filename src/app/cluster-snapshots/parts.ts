import type { Log } from '../../base/log.ts';
import type { ObjectStore } from '../../contracts/object-store.ts';
import type { Clock } from '../../contracts/seams.ts';
import type { SnapNode } from '../../farm/snapshots/snap-contents.ts';
import type { SnapshotStore } from '../../farm/snapshots/store.ts';
import type { StoreWriter } from '../../farm/snapshots/writer.ts';
import type { VdiDirectory } from '../../vdi/directory.ts';
import type { Deletions } from '../deletions.ts';
import type { Volumes } from '../volumes.ts';

/** What operations on snapshots of the cluster work with; one that changes the store has a writer. */
export interface SnapshotParts {
  readonly store: SnapshotStore;
  readonly volumes: Volumes;
  readonly directory: VdiDirectory;
  /** Where the objects of VDIs are. */
  readonly objects: ObjectStore;
  readonly deletions: Deletions;
  readonly clusterId: string;
  /** Of the cluster as it is now. */
  readonly nodes: readonly SnapNode[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface WritingParts extends SnapshotParts {
  readonly writer: StoreWriter;
}
