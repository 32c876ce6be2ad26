import { Command } from 'commander';
import { backupsIn, findEntry, shortId, sourceOf, viewOf } from '../app/backup/backups.ts';
import {
  type Freed,
  type Judged,
  judge,
  planRemoval,
  type RemovalOptions,
  remove,
} from '../app/backup/prune.ts';
import { KEEP_RULES, type KeepRules } from '../app/backup/retention.ts';
import { type BackupEntry, type BackupStore, changeBackups } from '../app/backup/store.ts';
import { isDamage, SheepError } from '../base/errors.ts';
import { DIRECTORY, ID } from './argument-texts.ts';
import { withBackups } from './backup-store.ts';
import type { Collie } from './collie-command.ts';
import { parseDuration } from './durations.ts';
import { formatBytes, formatTime, table } from './output.ts';
import { withAftermath } from './transfer-session.ts';

interface RemoveOptions {
  readonly dryRun?: true;
  readonly grace: string;
}

interface PruneOptions extends RemoveOptions {
  readonly keepLast?: string;
  readonly keepDaily?: string;
  readonly keepWeekly?: string;
  readonly keepMonthly?: string;
}

const DRY_RUN = ['--dry-run', 'only tell what would go, and how much that frees'] as const;
const GRACE = [
  '--grace <time>',
  'leave files alone that are younger, as in 0s, 90m, 2d',
  '1h',
] as const;

/** `collie backup prune`. */
export function pruneCommand(collie: Collie): Command {
  return new Command('prune')
    .description(
      'remove all backups of each VDI but those that a rule keeps, and what only they need',
    )
    .argument(...DIRECTORY)
    .option('--keep-last <n>', 'the newest ones')
    .option('--keep-daily <n>', 'the newest one of each of the last days that have one, in UTC')
    .option('--keep-weekly <n>', 'the same by weeks, from Monday')
    .option('--keep-monthly <n>', 'the same by months')
    .option(...DRY_RUN)
    .option(...GRACE)
    .action(async (directory: string, options: PruneOptions) => {
      const rules = rulesOf(options);
      await withBackups(collie, { directory }, async (store) => {
        let judged: Judged[] = [];
        const removal = await removed(collie, store, options, async () => {
          judged = judge((await backupsIn(store)).sound, rules);
          return judged.filter(({ by }) => by.length === 0).map(({ backup }) => backup.entry);
        });
        const backups = judged.map(({ backup, by }) => ({ ...viewOf(backup), keptBy: by }));
        collie.show({ ...factsOf(removal), backups }, (out) => {
          const goes = removal.dryRun ? 'would go' : 'gone';
          const rows = judged.map(({ backup, by }) => {
            const { id, entry } = { ...backup, id: idOf(removal, backup.entry) };
            const kept = by.length === 0 ? goes : `kept: ${by.join(', ')}`;
            return [id, formatTime(entry.timeMs), sourceOf(backup), kept];
          });
          if (rows.length > 0) {
            for (const line of table(['ID', 'MADE', 'SNAPSHOT', ''], rows)) out.line(line);
          }
          out.line(summary(removal, judged.length));
        });
      });
    });
}

/** `collie backup delete`. */
export function deleteCommand(collie: Collie): Command {
  return new Command('delete')
    .description('remove one backup, also a damaged one, and what only it needs')
    .argument(...DIRECTORY)
    .argument(...ID)
    .option(...DRY_RUN)
    .option(...GRACE)
    .action(async (directory: string, id: string, options: RemoveOptions) => {
      await withBackups(collie, { directory }, async (store) => {
        const removal = await removed(collie, store, options, async () => [
          findEntry(await backupsIn(store), id),
        ]);
        collie.show(factsOf(removal), (out) => out.line(summary(removal, removal.all.length)));
      });
    });
}

interface Removal {
  readonly dryRun: boolean;
  /** All that there were, and those that went. */
  readonly all: readonly BackupEntry[];
  readonly gone: readonly BackupEntry[];
  readonly plan: Freed;
}

/** @param choose  called when nobody else may change what there is, if anything is to be removed */
async function removed(
  collie: Collie,
  store: BackupStore,
  options: RemoveOptions,
  choose: () => Promise<readonly BackupEntry[]>,
): Promise<Removal> {
  const graceMs = parseDuration(options.grace, '--grace');
  const dryRun = options.dryRun === true;
  using shown = collie.progress('freeing space');
  const how: RemovalOptions = {
    graceMs,
    progress: ({ copiedBytes, totalBytes }) => shown.update(copiedBytes, totalBytes),
  };
  await using writer = dryRun ? undefined : await changeBackups(store);
  const all = store.snaps('user');
  const gone = await choose();
  try {
    const plan = await (writer === undefined
      ? planRemoval(store, gone, how)
      : remove(store, writer, gone, how));
    shown.done();
    return { dryRun, all, gone, plan };
  } catch (error) {
    throw isDamage(error) ? withAftermath(error, REMEDY) : error;
  }
}

const REMEDY =
  'nobody knows what else is needed, so nothing is freed; collie backup verify tells what is ' +
  'damaged, create --prove heals what a disk still holds, delete removes a backup that is lost';

function factsOf({ dryRun, gone, plan }: Removal) {
  const { freedBytes, liveBytes, keptBytes } = plan;
  return { dryRun, removed: gone.map(({ id }) => id), freedBytes, liveBytes, keptBytes };
}

const idOf = ({ all }: Removal, entry: BackupEntry) => shortId(all, entry);

/** @param count  of backups that were looked at */
function summary({ dryRun, gone, plan }: Removal, count: number): string {
  const [verb, freed] = dryRun ? ['would be removed', 'would be freed'] : ['removed', 'freed'];
  const { freedBytes, liveBytes, keptBytes } = plan;
  return (
    `${gone.length} of ${count} backups ${verb}, ${formatBytes(freedBytes)} ${freed}; ` +
    `${formatBytes(liveBytes)} are needed, ${formatBytes(keptBytes)} of others stay`
  );
}

/** @throws SheepError `ERR_BAD_INPUT` */
function rulesOf(options: PruneOptions): KeepRules {
  const texts = {
    last: options.keepLast,
    daily: options.keepDaily,
    weekly: options.keepWeekly,
    monthly: options.keepMonthly,
  };
  const rules = { last: 0, daily: 0, weekly: 0, monthly: 0 };
  for (const rule of KEEP_RULES) {
    const text = texts[rule];
    if (text === undefined) continue;
    if (!/^\d{1,6}$/.test(text)) {
      const message = `--keep-${rule} takes how many to keep, and not "${text}"`;
      throw new SheepError('ERR_BAD_INPUT', message, { [`keep-${rule}`]: text });
    }
    rules[rule] = Number(text);
  }
  if (KEEP_RULES.some((rule) => rules[rule] > 0)) return rules;
  const all = KEEP_RULES.map((rule) => `--keep-${rule}`).join(', ');
  const message = `what is to be kept? Without any of ${all} every backup would go`;
  throw new SheepError('ERR_BAD_INPUT', message);
}
