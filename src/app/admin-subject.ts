import type { Clock } from '../contracts/seams.ts';
import type { TlsState } from '../contracts/tls.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import type { Access } from './access.ts';
import type { HealthView, InfoView, StatsView } from './admin-views.ts';
import type { Checks } from './checks.ts';
import type { ClusterSnapshots } from './cluster-snapshots/cluster-snapshots.ts';
import type { Deletions } from './deletions.ts';
import type { Events } from './events.ts';
import type { Volumes } from './volumes.ts';

/** What the admin API shows and changes. */
export interface AdminSubject {
  readonly directory: VdiDirectory;
  readonly volumes: Volumes;
  readonly access: Access;
  readonly deletions: Deletions;
  readonly checks: Checks;
  readonly clusterSnapshots: ClusterSnapshots;
  readonly events: Events;
  readonly clock: Clock;
  info(): Promise<InfoView>;
  health(): Promise<HealthView>;
  stats(): Promise<StatsView>;
  /** Forgets the counts of exports that are not there any more. */
  forgetGone(): Promise<void>;
  /** Reads certificates and keys again. @throws SheepError as `reloadTls` */
  reload(): Promise<TlsState>;
  requestStop(): void;
}
