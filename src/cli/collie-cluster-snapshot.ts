import { Command } from 'commander';
import type {
  ClusterSnapshotListView,
  FreedView,
  OperationLine,
  SavedView,
} from '../app/admin-cluster-views.ts';
import type { Amount, RunningJob } from '../app/cluster-snapshots/operations.ts';
import { printable } from './admin-client.ts';
import { pathOfTag, SNAPSHOTS, TAG } from './cluster-snapshot-tags.ts';
import { loadCommand } from './collie-cluster-load.ts';
import { showCommand } from './collie-cluster-show.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes, formatTime, table } from './output.ts';

/** `collie cluster snapshot …`. */
export function clusterSnapshotCommands(collie: Collie): Command {
  const snapshot = new Command('snapshot').description(
    'all VDIs and their snapshots, of one instant',
  );
  const commands = [saveCommand, listCommand, showCommand, loadCommand, deleteCommand, gcCommand];
  for (const command of commands) snapshot.addCommand(command(collie));
  return snapshot;
}

function saveCommand({ lines, progress, show }: Collie): Command {
  return new Command('save')
    .description('keep all VDIs with their snapshots as they are at one instant; clients go on')
    .argument(...TAG)
    .action(async (tag: string) => {
      using shown = progress(`saving ${tag}`);
      const { result } = await lines<OperationLine<SavedView>>(
        'POST',
        SNAPSHOTS,
        ({ doneBytes, totalBytes }) => shown.update(doneBytes, totalBytes),
        { tag },
      );
      shown.done();
      show(result, (out) => {
        const { vdis, snapshots, timeMs, readBytes, storedBytes } = result;
        out.line(
          `${result.tag}: ${counted(vdis, 'VDI')} and ${counted(snapshots, 'snapshot')} of ` +
            `${formatTime(timeMs)}, ${formatBytes(readBytes)} read, ` +
            `${formatBytes(storedBytes)} stored`,
        );
      });
    });
}

const COLUMNS = ['TAG', 'TAKEN', 'VDIS', 'SNAPSHOTS', 'SIZE', 'ID'];
/** Digits of an ID that people are shown. */
const ID_DIGITS = 12;

function listCommand({ call, show, fail }: Collie): Command {
  return new Command('list')
    .description('the snapshots of the cluster, the oldest first, and what is done with them')
    .action(async () => {
      const listed = await call<ClusterSnapshotListView>('GET', SNAPSHOTS);
      show(listed, (out) => {
        const rows = listed.snapshots.map((one) => {
          const counts = [`${one.vdis}`, `${one.snapshots}`, formatBytes(one.sizeBytes)];
          return [one.tag, formatTime(one.timeMs), ...counts, one.id.slice(0, ID_DIGITS)];
        });
        for (const line of table(COLUMNS, rows)) out.line(line);
        for (const { tag, timeMs, flaw } of listed.lost) {
          out.line(printable(`${tag} of ${formatTime(timeMs)} is lost: ${flaw}`));
        }
        for (const running of listed.running) out.line(printable(underWay(running)));
      });
      if (listed.lost.length > 0) fail();
    });
}

function underWay({ operation, tag = '', sinceMs, doneBytes, totalBytes }: RunningJob): string {
  const total = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`;
  const name = [operation, tag].join(' ').trim();
  return `under way since ${formatTime(sinceMs)}: ${name}, ${formatBytes(doneBytes)}${total}`;
}

interface DryRun {
  readonly dryRun?: boolean;
}
const DRY_RUN = ['--dry-run', 'only say what would be freed'] as const;

function deleteCommand(collie: Collie): Command {
  return new Command('delete')
    .description('remove a snapshot of the cluster, and what only it needs')
    .argument(...TAG)
    .option(...DRY_RUN)
    .action(async (tag: string, { dryRun = false }: DryRun) => {
      const path = `${pathOfTag(tag)}${dryRun ? '?dryRun=true' : ''}`;
      const freed = await freeing(collie, 'DELETE', path);
      const verb = freed.dryRun ? 'would be removed' : 'removed';
      collie.show({ tag, ...freed }, (out) => out.line(`${tag} ${verb}, ${spaceOf(freed)}`));
    });
}

function gcCommand(collie: Collie): Command {
  return new Command('gc')
    .description('free what no snapshot of the cluster needs, as stopped runs leave it')
    .option(...DRY_RUN)
    .action(async ({ dryRun = false }: DryRun) => {
      const freed = await freeing(collie, 'POST', '/v1/cluster/gc', { dryRun });
      collie.show(freed, (out) => out.line(spaceOf(freed)));
    });
}

async function freeing(
  { lines, progress }: Collie,
  method: 'DELETE' | 'POST',
  path: string,
  body?: object,
): Promise<FreedView> {
  using shown = progress('freeing space');
  const each = ({ doneBytes, totalBytes }: Amount) => shown.update(doneBytes, totalBytes);
  const { result } = await lines<OperationLine<FreedView>>(method, path, each, body);
  shown.done();
  return result;
}

function spaceOf({ dryRun, freedBytes, liveBytes, keptBytes }: FreedView): string {
  const freed = dryRun ? 'would be freed' : 'freed';
  return (
    `${formatBytes(freedBytes)} ${freed}; ${formatBytes(liveBytes)} are needed, ` +
    `${formatBytes(keptBytes)} of others stay`
  );
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
