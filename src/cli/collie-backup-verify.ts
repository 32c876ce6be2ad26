import { Command } from 'commander';
import { backupsIn, findEntry } from '../app/backup/backups.ts';
import { SheepError } from '../base/errors.ts';
import { type CheckFinding, checkStore } from '../farm/snapshots/check.ts';
import { DIRECTORY, withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';

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
      const samplePercent = percentOf(options);
      await withBackups(collie, directory, undefined, async (store) => {
        const snaps = id === undefined ? store.snaps() : [findEntry(await backupsIn(store), id)];
        using shown = collie.progress('verifying');
        let readBytes = 0;
        const progress = ({
          provenBytes,
          totalBytes,
        }: {
          provenBytes: number;
          totalBytes: number;
        }) => {
          readBytes = provenBytes;
          shown.update(provenBytes, totalBytes);
        };
        const findings: CheckFinding[] = [];
        for await (const finding of checkStore(store, { snaps, samplePercent, progress })) {
          findings.push(finding);
        }
        shown.done();
        tell(collie, { snaps: snaps.length, readBytes, samplePercent, findings });
      });
    });
}

function percentOf({ sample }: VerifyOptions): number {
  if (sample === undefined) return 100;
  const percent = Number(sample);
  if (/^\d+(?:\.\d+)?$/.test(sample) && percent > 0 && percent <= 100) return percent;
  const message = `--sample takes how many of a hundred, above 0 and up to 100, and not "${sample}"`;
  throw new SheepError('ERR_BAD_INPUT', message, { sample });
}

interface Verified {
  readonly snaps: number;
  readonly readBytes: number;
  readonly samplePercent: number;
  readonly findings: readonly CheckFinding[];
}

function tell(collie: Collie, { snaps, readBytes, samplePercent, findings }: Verified): void {
  const found = findings.map(({ kind, message, object, snap, disk, at, length }) => ({
    ...{ kind, message, object, backup: snap?.id },
    ...(disk && { source: `${disk.name}@${disk.snapshot}`, at, length }),
  }));
  collie.show({ backups: snaps, readBytes, samplePercent, findings: found }, (out) => {
    for (const { message } of findings) out.line(message);
    const part = samplePercent === 100 ? '' : `, a sample of ${samplePercent} %`;
    const read = `${formatBytes(readBytes)} read${part}`;
    const what = snaps === 1 ? '1 backup' : `${snaps} backups`;
    const verdict = findings.length === 0 ? 'sound' : `not sound, ${findings.length} flaws`;
    out.line(`${what} verified: ${verdict} (${read})`);
  });
  if (findings.length > 0) collie.fail();
}
