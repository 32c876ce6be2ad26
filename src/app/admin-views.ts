import type { Farm } from '../farm/farm.ts';
import type { ConnectionInfo } from '../nbd/server.ts';
import type { VolumeRecord } from '../vdi/record.ts';
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
export type HealthView = Health;

/** `GET /v1/stats`: what changes all the time. */
export interface StatsView {
  readonly upMs: number;
  readonly process: ProcessStats;
  readonly farm: ReturnType<Farm['stats']>;
  readonly space: SpaceView;
  readonly connections: readonly ConnectionInfo[];
}

/** One VDI in `GET /v1/vdis`. */
export interface VdiView extends VolumeRecord {
  readonly clients: readonly { readonly name: string; readonly transport: 'tcp' | 'unix' }[];
}

/** `GET /v1/vdis`. */
export interface VdiListView {
  readonly vdis: readonly VdiView[];
  /** Without a name any more, their objects being removed. */
  readonly deleting: readonly VdiView[];
}

/** `GET /v1/vdis/NAME`. */
export interface VdiInfoView extends VdiView {
  /** How many objects of its own it has; each takes `objectBytes` at most. */
  readonly objects: number;
}

/** `DELETE /v1/vdis/NAME`. */
export interface VdiDeletedView extends VdiView {
  readonly dryRun: boolean;
}

/** Any answer with a status of 400 or more. */
export interface ErrorView {
  /** A fault of base/errors.ts, or ERR_INTERNAL. */
  readonly code: string;
  /** One sentence for people. */
  readonly message: string;
  readonly facts: Readonly<Record<string, string | number | boolean | undefined>>;
}
