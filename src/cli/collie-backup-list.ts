import { Command } from 'commander';
import { backupsIn, findBackup, shortId, sourceOf, viewOf } from '../app/backup/backups.ts';
import { printable } from './admin-client.ts';
import { DIRECTORY, ID } from './argument-texts.ts';
import { withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { fields, formatBytes, formatTime, table } from './output.ts';

const COLUMNS = ['ID', 'MADE', 'SNAPSHOT', 'TAKEN', 'SIZE', 'TAG'];

/** `collie backup list DIR`. */
export function listCommand(collie: Collie): Command {
  return new Command('list')
    .description('the backups in a directory, the oldest first')
    .argument(...DIRECTORY)
    .action(async (directory: string) => {
      await withBackups(collie, { directory }, async (store) => {
        const { sound, lost } = await backupsIn(store);
        const flaws = lost.map(({ entry: { id, tag, timeMs }, flaw }) => ({
          id,
          tag,
          timeMs,
          flaw,
        }));
        const { storeId, hash, codec } = store.identity;
        const views = sound.map(viewOf);
        collie.show({ storeId, hash, codec, backups: views, lost: flaws }, (out) => {
          const all = store.snaps('user');
          const rows = sound.map((backup) => {
            const { entry, disk } = backup;
            const times = [formatTime(entry.timeMs), sourceOf(backup), formatTime(disk.snapshotMs)];
            return [shortId(all, entry), ...times, formatBytes(disk.sizeBytes), entry.tag];
          });
          for (const line of table(COLUMNS, rows)) out.line(line);
          for (const { entry, flaw } of lost) {
            out.line(
              printable(`${shortId(all, entry)} ${formatTime(entry.timeMs)} is lost: ${flaw}`),
            );
          }
        });
        if (lost.length > 0) collie.fail();
      });
    });
}

/** `collie backup show DIR ID`. */
export function showCommand(collie: Collie): Command {
  return new Command('show')
    .description('one backup, and what it takes')
    .argument(...DIRECTORY)
    .argument(...ID)
    .action(async (directory: string, id: string) => {
      const { usageOf } = await import('../app/backup/usage.ts');
      await withBackups(collie, { directory }, async (store) => {
        const backup = findBackup(await backupsIn(store), id);
        const { sliceBytes } = store.identity;
        const view = { ...viewOf(backup), ...(await usageOf(store, backup)) };
        collie.show(view, (out) => {
          const { sizeBytes, objectBytes, contentBytes, neededBytes, exclusiveBytes } = view;
          const lines = fields([
            ['id', view.id],
            ...(view.tag === '' ? [] : [['tag', view.tag] as const]),
            ['made', formatTime(view.timeMs)],
            ['snapshot', `${view.source}, ID ${view.vid}, of cluster ${view.clusterId}`],
            ['taken', formatTime(view.snapshotMs)],
            ['size', `${formatBytes(sizeBytes)} (${sizeBytes} bytes)`],
            ['object size', formatBytes(objectBytes)],
            ['content', `${formatBytes(contentBytes)}, in slices of ${formatBytes(sliceBytes)}`],
            ['takes', `${formatBytes(neededBytes)}, ${formatBytes(exclusiveBytes)} of it alone`],
          ]);
          for (const line of lines) out.line(line);
        });
      });
    });
}
