/** How many backups of each disk are kept by each rule; 0: the rule keeps none. */
export type KeepRules = Readonly<Record<KeepRule, number>>;
export type KeepRule = (typeof KEEP_RULES)[number];
export const KEEP_RULES = ['last', 'daily', 'weekly', 'monthly'] as const;

/** When a backup was made, in wall milliseconds since 1970. */
export interface Dated {
  readonly timeMs: number;
}

/** One backup and the rules that keep it; none: it goes. */
export interface Kept<Backup extends Dated> {
  readonly backup: Backup;
  readonly by: readonly KeepRule[];
}

/**
 * Which backups of one disk stay. `last` keeps the newest N. `daily` keeps the newest one of each of
 * the last N days that have one, `weekly` and `monthly` the same by weeks from Monday and by months
 * of the calendar; all in UTC, as `collie` shows times. Days without a backup do not count, so N
 * days of backups stay however long ago the last was made. One that several rules keep counts for
 * each of them; one that any rule keeps stays.
 * @param backups  of one disk, in the order in which they were made; of two that say the same time,
 *                 the later one is the newer
 * @returns all of them, the newest first
 */
export function retention<Backup extends Dated>(
  backups: readonly Backup[],
  rules: KeepRules,
): Kept<Backup>[] {
  const left = { ...rules };
  const period: Partial<Record<KeepRule, number>> = {};
  return newestFirst(backups).map((backup, nth) => {
    const by = KEEP_RULES.filter((rule) => {
      const now = rule === 'last' ? nth : PERIOD_OF[rule](backup.timeMs);
      if (left[rule] === 0 || period[rule] === now) return false;
      left[rule] -= 1;
      period[rule] = now;
      return true;
    });
    return { backup, by };
  });
}

function newestFirst<Backup extends Dated>(backups: readonly Backup[]): Backup[] {
  return backups.toReversed().sort((a, b) => b.timeMs - a.timeMs);
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** 1970-01-01 was a Thursday. */
const DAYS_FROM_MONDAY_TO_1970 = 3;

const dayOf = (timeMs: number) => Math.floor(timeMs / DAY_MS);

/** A number for each period, the same for all times in it. */
const PERIOD_OF = {
  daily: dayOf,
  weekly: (timeMs) => Math.floor((dayOf(timeMs) + DAYS_FROM_MONDAY_TO_1970) / 7),
  monthly: (timeMs) => {
    const date = new Date(timeMs);
    // A forged time: the calendar ends before it, and other backups are still to be judged.
    if (Number.isNaN(date.getTime())) return Math.floor(dayOf(timeMs) / 30);
    return date.getUTCFullYear() * 12 + date.getUTCMonth();
  },
} as const satisfies Record<Exclude<KeepRule, 'last'>, (timeMs: number) => number>;
