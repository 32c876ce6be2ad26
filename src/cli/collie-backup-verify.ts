import { Command } from 'commander';
import { backupsIn, findEntry } from '../app/backup/backups.ts';
import { type FindingView, type VerifyProgress, verifyBackups } from '../app/backup/verify.ts';
import { nodeCpuPool } from '../host/node-cpu-pool.ts';
import { printable } from './admin-client.ts';
import { DIRECTORY } from './argument-texts.ts';
import { withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';
import { percentOf } from './percent.ts';

interface VerifyOptions {
  readonly sample?: string;
}

/** `collie backup verify`. */
export function verifyCommand(collie: Collie): Command {
  return new Command('verify')
    .description('read and prove all that backups need; exit status 1 if something is wrong')
    .argument(...DIRECTORY)
    .argument('[id]', 'only this backup, by the beginning of its ID or its tag')
    .option('--sample <percent>', 'read only so many of a hundred slices, drawn by chance')
    .action(async (directory: string, id: string | undefined, options: VerifyOptions) => {
      const samplePercent = percentOf(options.sample);
      // A thread begins while the store is opened.
      await using pool = nodeCpuPool();
      pool.begin();
      await withBackups(collie, { directory, pool }, async (store) => {
        const entries = id === undefined ? store.snaps() : [findEntry(await backupsIn(store), id)];
        using shown = collie.progress('verifying');
        let readBytes = 0;
        const progress: VerifyProgress = ({ provenBytes, totalBytes }) => {
          readBytes = provenBytes;
          shown.update(provenBytes, totalBytes);
        };
        const findings: FindingView[] = [];
        for await (const finding of verifyBackups(store, { entries, samplePercent, progress })) {
          findings.push(finding);
        }
        shown.done();
        tell(collie, { backups: entries.length, readBytes, samplePercent, findings });
      });
    });
}

interface Verified {
  readonly backups: number;
  readonly readBytes: number;
  readonly samplePercent: number;
  readonly findings: readonly FindingView[];
}

function tell({ show, fail }: Collie, verified: Verified): void {
  const { backups, readBytes, samplePercent, findings } = verified;
  show(verified, (out) => {
    for (const { message } of findings) out.line(printable(message));
    const part = samplePercent === 100 ? '' : `, a sample of ${samplePercent} %`;
    const read = `${formatBytes(readBytes)} read${part}`;
    const what = backups === 1 ? '1 backup' : `${backups} backups`;
    const flaws = findings.length === 1 ? '1 flaw' : `${findings.length} flaws`;
    const verdict = findings.length === 0 ? 'sound' : `not sound, ${flaws}`;
    out.line(`${what} verified: ${verdict} (${read})`);
  });
  if (findings.length > 0) fail();
}
