import { Command } from 'commander';
import type { LoadedView, OperationLine } from '../app/admin-cluster-views.ts';
import { pathOfTag, TAG } from './cluster-snapshot-tags.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes, table } from './output.ts';

interface LoadOptions {
  readonly vdi?: string;
  readonly as?: string;
  readonly replace?: true;
  readonly dryRun?: true;
}

/** `collie cluster snapshot load`. */
export function loadCommand({ lines, progress, show }: Collie): Command {
  return new Command('load')
    .description(
      'bring back all VDIs of a snapshot of the cluster, or one; others stay as they are',
    )
    .argument(...TAG)
    .option('--vdi <vdi>', 'only this one, with its snapshots')
    .option('--as <name>', 'under this name')
    .option('--replace', 'in the place of VDIs of the same names: what these hold is lost')
    .option('--dry-run', 'only say what would be done')
    .action(async (tag: string, options: LoadOptions) => {
      using shown = progress(`loading ${tag}`);
      const { result } = await lines<OperationLine<LoadedView>>(
        'POST',
        `${pathOfTag(tag)}/load`,
        ({ doneBytes, totalBytes }) => shown.update(doneBytes, totalBytes),
        options,
      );
      shown.done();
      show(result, (out) => {
        const [made, stays, goes] = result.dryRun
          ? ['would be made', 'would stay as it is', 'would be replaced']
          : ['made', 'stays as it is', 'replaced'];
        const rows = [
          ...result.replaced.map((one) => [one.export, formatBytes(one.sizeBytes), goes, '']),
          ...result.made.map((one) => {
            const read = `${formatBytes(one.writtenBytes)} read`;
            return [one.export, formatBytes(one.sizeBytes), made, read];
          }),
          ...result.reused.map((one) => [one.export, formatBytes(one.sizeBytes), stays, '']),
        ];
        for (const line of table(['NAME', 'SIZE', '', ''], rows)) out.line(line);
        const verb = result.dryRun ? 'would be loaded' : 'loaded';
        out.line(`${tag} ${verb}, ${formatBytes(result.writtenBytes)} read`);
      });
    });
}
