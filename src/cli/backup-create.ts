import type { VdiView } from '../app/admin-views.ts';
import {
  type Backup,
  backupsIn,
  backupTag,
  shortId,
  sourceOf,
  viewOf,
} from '../app/backup/backups.ts';
import { type Base, findBase } from '../app/backup/base.ts';
import { type BackupMade, createBackup } from '../app/backup/create.ts';
import {
  type BackupShape,
  type BackupStore,
  type BackupWriter,
  changeBackups,
} from '../app/backup/store.ts';
import { changedSince, changesContext } from '../app/transfer/changes.ts';
import type { Export } from '../app/transfer/spread.ts';
import { isDamage, SheepError } from '../base/errors.ts';
import type { Call } from '../contracts/call.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';
import { withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';
import { type TransferOptions, TransferSession, withAftermath } from './transfer-session.ts';

/** What `collie backup create` is given. */
export interface CreateOptions extends TransferOptions, BackupShape {
  readonly to: string;
  readonly tag?: string;
  readonly prove?: true;
}

interface Asked {
  readonly name: string;
  readonly snapshot: string;
  readonly pool: CpuPool;
}

/** Does what `collie backup create` is asked for, and tells what came of it. */
export async function create(
  collie: Collie,
  options: CreateOptions,
  { name, snapshot, pool }: Asked,
): Promise<void> {
  const tag = backupTag(options.tag);
  await TransferSession.run(collie, options, async (session) => {
    const [vdi, sheep, records] = await Promise.all([
      session.info({ name, snapshot }),
      session.sheep(),
      session.everyRecord(),
    ]);
    const { clusterId } = sheep.cluster;
    const place = { directory: options.to, create: chosen(options), pool };
    await withBackups(collie, place, async (store) => {
      refuseOtherShape(store, options);
      const proving = options.prove === true;
      await using writer = await changeBackups(store, proving);
      const job = { collie, session, store, writer, clusterId, vdi, records, tag, proving };
      tell(collie, store, await backUp(job));
    });
  });
}

function chosen({ hash, codec }: CreateOptions): BackupShape {
  return { ...(hash !== undefined && { hash }), ...(codec !== undefined && { codec }) };
}

/** A store keeps what it was made with: what was asked for in vain must not look as if it were so. */
function refuseOtherShape({ identity, options }: BackupStore, asked: CreateOptions): void {
  for (const key of ['hash', 'codec'] as const) {
    if (asked[key] === undefined || asked[key] === identity[key]) continue;
    throw new SheepError(
      'ERR_BAD_INPUT',
      `${options.directory} was made with --${key} ${identity[key]} and keeps it; leave --${key} out`,
      { [key]: identity[key] },
    );
  }
}

interface Job {
  readonly collie: Collie;
  readonly session: TransferSession;
  readonly store: BackupStore;
  readonly writer: BackupWriter;
  readonly clusterId: string;
  /** Every VDI and snapshot there is. */
  readonly records: readonly VdiView[];
  readonly vdi: VdiView;
  readonly tag: string;
  /** Nothing that is there is relied on. */
  readonly proving: boolean;
}

interface Created extends Partial<Pick<BackupMade, 'counts'>> {
  readonly backup: Backup;
  readonly base?: Backup;
}

async function backUp(job: Job): Promise<Created> {
  const { collie, session, store, writer, clusterId, records, vdi, tag, proving } = job;
  const { sound } = await backupsIn(store);
  const known = proving ? [] : sound;
  const found = findBase(known, clusterId, records, vdi);
  const { backup } = found ?? {};
  if (found?.snapshot.vid === vdi.vid && backup?.entry.tag === tag) return { backup };
  using shown = collie.progress(`backing up ${vdi.export}`);
  await using device = await open(session, vdi, found);
  const call = session.callFor(device);
  const changed = found && changesIn(device, vdi, found, call);
  const base = backup && changed && { backup, changed };
  const source = { clusterId, snapshot: vdi, device, ...(base && { base }) };
  const how = { tag, clock: store.options.clock, call };
  const made = await createBackup(store, writer, source, how, ({ at }) =>
    shown.update(at, vdi.sizeBytes),
  ).catch((error) => {
    throw base === undefined ? error : withRemedy(error);
  });
  shown.update(vdi.sizeBytes, vdi.sizeBytes);
  shown.done();
  return { ...made, ...(base && { base: base.backup }) };
}

/** What a backup was to be built on may be damaged. */
function withRemedy(error: unknown): unknown {
  if (!isDamage(error)) return error;
  return withAftermath(error, 'with --prove it is built on nothing, and what is damaged is healed');
}

/** By its ID, because its tag may be another snapshot's by now. */
function open(session: TransferSession, vdi: VdiView, base: Base | undefined) {
  const contexts = base === undefined ? [] : [changesContext(base.snapshot.tag)];
  return session.open(`${vdi.name}@${vdi.vid}`, contexts);
}

/** Undefined if that is not known, because the earlier snapshot was deleted meanwhile. */
function changesIn(device: Export, vdi: VdiView, { snapshot }: Base, call: Call) {
  if (snapshot.vid === vdi.vid) return [];
  const isKnown = device.info.contexts?.includes(changesContext(snapshot.tag));
  return isKnown ? changedSince(device, snapshot.tag, call) : undefined;
}

function tell({ show }: Collie, store: BackupStore, { backup, counts, base }: Created): void {
  const facts = {
    ...viewOf(backup),
    ...{ created: counts !== undefined, base: base?.entry.id ?? null },
    ...bytesOf(counts),
  };
  show(facts, (out) => {
    const all = store.snaps('user');
    const [id, source] = [shortId(all, backup.entry), sourceOf(backup)];
    if (counts === undefined) {
      out.line(`${source} is there already: backup ${id}`);
      return;
    }
    const { readBytes, storedBytes } = counts;
    const since = base === undefined ? '' : ` since ${shortId(all, base.entry)}`;
    out.line(
      `${id} ${source} ${formatBytes(backup.disk.sizeBytes)}: ${formatBytes(readBytes)} read` +
        `${since}, ${formatBytes(storedBytes)} stored`,
    );
  });
}

function bytesOf(counts: BackupMade['counts'] | undefined) {
  const { readBytes = 0, newBytes = 0, sharedBytes = 0, storedBytes = 0 } = counts ?? {};
  return { readBytes, newBytes, sharedBytes, storedBytes };
}
