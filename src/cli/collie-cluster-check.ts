import { Command } from 'commander';
import type { ClusterCheckLine, ClusterFlawView } from '../app/admin-cluster-views.ts';
import { printable } from './admin-client.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';
import { percentOf } from './percent.ts';
import type { Progress } from './progress.ts';

/** `collie cluster check`. */
export function clusterCheckCommand({ lines, progress, show, fail }: Collie): Command {
  return new Command('check')
    .description('read and prove every VDI and every snapshot; exit status 1 if something is wrong')
    .option('--sample <percent>', 'of snapshots of the cluster only so many of a hundred slices')
    .action(async ({ sample }: { readonly sample?: string }) => {
      const samplePercent = percentOf(sample);
      const flaws: ClusterFlawView[] = [];
      using steps = new Steps(progress);
      const { result } = await lines<ClusterCheckLine>(
        'POST',
        '/v1/cluster/check',
        (line) => {
          if (line.is === 'flaw') flaws.push(line.flaw);
          else steps.of(line.what).update(line.doneBytes, line.totalBytes);
        },
        { samplePercent },
      );
      steps.done();
      show({ ...result, flaws }, (out) => {
        for (const { message } of flaws) out.line(printable(message));
        const { snapshots, exports, readBytes, flawCount } = result;
        if (flawCount > flaws.length) out.line(`and ${flawCount - flaws.length} more`);
        const part = samplePercent === 100 ? '' : `, of snapshots a sample of ${samplePercent} %`;
        const read = `${formatBytes(readBytes)} read${part}`;
        const verdict = flawCount === 0 ? 'sound' : `not sound, flaws: ${flawCount}`;
        out.line(
          `served: ${exports}, snapshots of the cluster: ${snapshots}; ${verdict} (${read})`,
        );
      });
      if (result.flawCount > 0) fail();
    });
}

/** A bar for each thing that is read, one after the other. */
class Steps implements Disposable {
  readonly #progress: Collie['progress'];
  #what = '';
  #shown: Progress | undefined;

  constructor(progress: Collie['progress']) {
    this.#progress = progress;
  }

  of(what: string): Progress {
    if (this.#shown !== undefined && this.#what === what) return this.#shown;
    this.done();
    this.#what = what;
    this.#shown = this.#progress(`checking ${what}`);
    return this.#shown;
  }
  done(): void {
    this.#shown?.done();
    this.#shown = undefined;
  }
  [Symbol.dispose](): void {
    this.#shown?.[Symbol.dispose]();
  }
}
