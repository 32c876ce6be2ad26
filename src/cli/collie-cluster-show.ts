import { Command } from 'commander';
import type { ClusterSnapshotInfoView, OperationLine } from '../app/admin-cluster-views.ts';
import { pathOfTag, TAG } from './cluster-snapshot-tags.ts';
import type { Collie } from './collie-command.ts';
import { fields, formatBytes, formatTime, table } from './output.ts';

const COLUMNS = ['NAME', 'SIZE', 'CONTENT', 'TAKES', 'ALONE', 'ID', 'CREATED'];

/** `collie cluster snapshot show`. */
export function showCommand({ lines, progress, show }: Collie): Command {
  return new Command('show')
    .description('what a snapshot of the cluster holds, and what of it is shared')
    .argument(...TAG)
    .action(async (tag: string) => {
      using shown = progress(`reading ${tag}`);
      const { result: info } = await lines<OperationLine<ClusterSnapshotInfoView>>(
        'GET',
        pathOfTag(tag),
        ({ doneBytes, totalBytes }) => shown.update(doneBytes, totalBytes),
      );
      shown.done();
      show(info, (out) => {
        const { neededBytes, exclusiveBytes, contentBytes } = info;
        const lines = fields([
          ['tag', info.tag],
          ['id', info.id],
          ['taken', formatTime(info.timeMs)],
          ['cluster', info.clusterId],
          ...info.nodes.map(
            ({ nodeId, version, store }) => ['node', `${nodeId}, ${version}, ${store}`] as const,
          ),
          ['content', formatBytes(contentBytes)],
          ['takes', `${formatBytes(neededBytes)}, ${formatBytes(exclusiveBytes)} of it alone`],
        ]);
        for (const line of lines) out.line(line);
        if (info.disks.length === 0) return;
        out.line('');
        const rows = info.disks.map((disk) => {
          const sizes = [disk.sizeBytes, disk.contentBytes, disk.neededBytes, disk.exclusiveBytes];
          return [
            ...[disk.export, ...sizes.map(formatBytes)],
            ...[`${disk.vid}`, formatTime(disk.createdMs)],
          ];
        });
        for (const line of table(COLUMNS, rows)) out.line(line);
      });
    });
}
