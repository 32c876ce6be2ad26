import { Command } from 'commander';
import type { VdiInfoView } from '../app/admin-views.ts';
import { type Backup, backupsIn, findBackup, sourceOf, viewOf } from '../app/backup/backups.ts';
import { checkRestoreName, restoreBackup } from '../app/backup/restore.ts';
import type { BackupStore } from '../app/backup/store.ts';
import { quoted } from '../app/transfer/image-formats.ts';
import { SheepError } from '../base/errors.ts';
import { nodeCpuPool } from '../host/node-cpu-pool.ts';
import { DIRECTORY, ID, NBD_OPTION } from './argument-texts.ts';
import { withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { aftermathOf } from './import-raw.ts';
import { formatBytes } from './output.ts';
import { type TransferOptions, TransferSession, withAftermath } from './transfer-session.ts';

interface RestoreOptions extends TransferOptions {
  readonly overwrite?: true;
}

/** `collie backup restore DIR ID NAME`. */
export function restoreCommand(collie: Collie): Command {
  return new Command('restore')
    .description('make a VDI of a backup, also in another cluster than it came from')
    .argument(...DIRECTORY)
    .argument(...ID)
    .argument('<name>', 'the VDI that is made')
    .option('--overwrite', 'make one that exists what the backup is; what it holds is lost')
    .option(...NBD_OPTION)
    .action(
      async (directory: string, id: string, name: string, _options: unknown, command: Command) => {
        const options: RestoreOptions = command.optsWithGlobals();
        checkRestoreName(name);
        // A thread begins while the store is opened.
        await using pool = nodeCpuPool();
        pool.begin();
        await withBackups(collie, { directory, pool }, async (store) => {
          const backup = findBackup(await backupsIn(store), id);
          await TransferSession.run(collie, options, async (session) => {
            const existing = await session.find({ name });
            if (existing !== undefined) await refuse(session, existing, backup, options);
            await restore({ collie, session, store, backup, name, existing });
          });
        });
      },
    );
}

/** What may not be written over, or does not fit. */
async function refuse(
  session: TransferSession,
  existing: VdiInfoView,
  { disk }: Backup,
  { overwrite }: RestoreOptions,
): Promise<void> {
  const { name, sizeBytes } = existing;
  if (overwrite !== true) {
    const message = `there is a VDI '${name}'; give another name, or --overwrite to lose what it holds`;
    throw new SheepError('ERR_EXISTS', message, { name });
  }
  await session.refuseInUse(existing, 'it would change under its feet, so detach it first');
  if (disk.sizeBytes <= sizeBytes) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `the backup has ${disk.sizeBytes} bytes, and '${name}' only ${sizeBytes}; to make it larger: ` +
      `collie vdi resize ${quoted(name)} ${disk.sizeBytes}`,
    { backupBytes: disk.sizeBytes, sizeBytes },
  );
}

interface Job {
  readonly collie: Collie;
  readonly session: TransferSession;
  readonly store: BackupStore;
  readonly backup: Backup;
  readonly name: string;
  readonly existing: VdiInfoView | undefined;
}

async function restore({ collie, session, store, backup, name, existing }: Job): Promise<void> {
  const created = existing === undefined;
  const { sizeBytes, objectBytes } = backup.disk;
  if (created) {
    const asked = { name, size: `${sizeBytes}`, objectSize: `${objectBytes}` };
    await session.call('POST', '/v1/vdis', asked);
  }
  let begun = created;
  try {
    using shown = collie.progress(`restoring ${name}`);
    await using device = await session.open(name);
    begun = true;
    const call = session.callFor(device);
    const target = { device, fresh: created };
    const { writtenBytes } = await restoreBackup(store, backup, target, call, ({ at }) =>
      shown.update(at, sizeBytes),
    );
    shown.update(sizeBytes, sizeBytes);
    shown.done();
    collie.show({ name, created, writtenBytes, backup: viewOf(backup) }, (out) => {
      const written = `${formatBytes(writtenBytes)} of ${formatBytes(sizeBytes)} written`;
      out.line(`${name} is ${sourceOf(backup)} again, ${written}`);
    });
  } catch (error) {
    if (!begun) throw error;
    throw withAftermath(error, await aftermathOf(session, name, { created, verb: 'restore' }));
  }
}
