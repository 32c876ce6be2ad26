import type { PlainFacts } from '../base/errors.ts';
import type { Durations } from '../base/histogram.ts';
import type { Farm } from '../farm/farm.ts';
import type { ConnectionInfo, NbdStats } from '../nbd/server.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import type { Flaw } from './check-device.ts';
import type { OperationStats } from './cluster-snapshots/operations.ts';
import type { Health } from './health.ts';
import type { ProcessStats } from './host.ts';

/** What the admin API answers, as JSON; `collie` reads the same types. */

export type SpaceView = Awaited<ReturnType<Farm['space']>>;

/** `GET /v1/info`. */
export interface InfoView {
  readonly cluster: {
    readonly driver: 'local';
    readonly clusterId: string;
    readonly nodes: number;
  };
  readonly node: {
    readonly nodeId: string;
    readonly version: string;
    readonly store: string;
    readonly nbd: readonly string[];
    readonly admin: readonly string[];
    /** Wall time in milliseconds since 1970. */
    readonly startedMs: number;
  };
  readonly space: SpaceView;
}

/** `GET /v1/health`. */
export interface HealthView extends Health {
  /** Deletions that are not finished: the space of these VDIs and snapshots is not free yet. */
  readonly deleting: number;
}

/** `GET /v1/stats`: what changes all the time. */
export interface StatsView {
  readonly upMs: number;
  readonly process: ProcessStats;
  readonly farm: ReturnType<Farm['stats']>;
  readonly space: SpaceView;
  /** How long it took to make a file stable, each time. */
  readonly diskSyncs: Durations;
  readonly connections: readonly ConnectionInfo[];
  /** Counted since the start. */
  readonly nbd: NbdStats;
  readonly events: readonly EventCount[];
  readonly clusterSnapshots: OperationStats;
}

/** One VDI or snapshot. */
export interface VdiView extends VolumeRecord {
  /** The name under which NBD has it: `NAME`, of a snapshot `NAME@TAG`. */
  readonly export: string;
  readonly clients: readonly { readonly name: string; readonly transport: 'tcp' | 'unix' }[];
}

/** `GET /v1/vdis`. */
export interface VdiListView {
  readonly vdis: readonly VdiView[];
  readonly snapshots: readonly VdiView[];
  readonly deleting: readonly DeletionView[];
  /**
   * What has no name: deleted ones of which something is left, because others of their family read it,
   * and states that are held for a snapshot of the cluster, or were.
   */
  readonly kept: readonly VdiView[];
}

/** Without a name or tag any more; what only it needed is being removed. */
export interface DeletionView extends VdiView {
  /** Objects that were looked at, of so many; absent: it is not its turn yet. */
  readonly progress?: { readonly done: number; readonly total: number };
}

/** `GET /v1/deletions`. */
export interface DeletionListView {
  readonly deleting: readonly DeletionView[];
}

/** `GET /v1/vdis/NAME`, `GET /v1/vdis/NAME/snapshots/TAG`. */
export interface VdiInfoView extends VdiView {
  /** How many objects of its own it has; each takes `objectBytes` at most. */
  readonly objects: number;
  /** How many it reads of the snapshots that it was made from. */
  readonly sharedObjects: number;
  /** The export name of the snapshot it was made from, while that exists. */
  readonly madeFrom?: string;
}

/** What a deletion, a rollback or a resize says of the VDI or snapshot that it was about. */
export interface VdiChangedView extends VdiView {
  /** Nothing was done, only looked whether it could be. */
  readonly dryRun: boolean;
}

/** `PATCH /v1/vdis/NAME`: the VDI as it is set now. */
export interface VdiSetView extends VdiChangedView {
  /** Whom its access rules do not let in any more: he was disconnected. */
  readonly shutOut: readonly {
    readonly name: string;
    readonly transport: 'tcp' | 'unix';
    readonly export: string;
  }[];
}

/** `POST /v1/vdis/NAME/check`, `POST /v1/vdis/NAME/snapshots/TAG/check`: a line each. */
export type CheckLine =
  | {
      readonly is: 'progress';
      /** That were looked at. */
      readonly objects: number;
      /** So many there were at its beginning: a VDI that is in use may get more. Absent: unknown. */
      readonly totalObjects?: number;
    }
  | { readonly is: 'flaw'; readonly flaw: Flaw }
  | { readonly is: 'end'; readonly checked: CheckedView }
  | ErrorLine;

/** The last line of what failed after its first one. */
export interface ErrorLine {
  readonly is: 'error';
  readonly error: ErrorView;
}

/** How a check ended. */
export interface CheckedView {
  readonly export: string;
  /** That hold anything, its own and those of the snapshots that it reads. */
  readonly objects: number;
  readonly readBytes: number;
  /** Also of those that were too many to be told. */
  readonly flawCount: number;
}

/** Any answer with a status of 400 or more. */
export interface ErrorView {
  /** A fault of base/errors.ts, or ERR_INTERNAL. */
  readonly code: string;
  /** One sentence for people. */
  readonly message: string;
  readonly facts: PlainFacts;
}

/** How often something was told since the start. */
export interface EventCount {
  readonly event: string;
  readonly level: EventView['level'];
  readonly count: number;
}

/** What a message of `GET /v1/events` says. */
export interface EventView {
  /** Counted from the start of the sheep, from 1 on. */
  readonly seq: number;
  /** Wall time in milliseconds since 1970. */
  readonly timeMs: number;
  readonly level: 'info' | 'warn' | 'error';
  /** Its name, in dots: docs/OPERATIONS.md says what each means. */
  readonly event: string;
  readonly facts: PlainFacts;
}
