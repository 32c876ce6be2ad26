import { GiB, MiB } from '../src/base/units.ts';
import { CASES, type Goal } from './cases.ts';
import type { CaseResult, Unit } from './compare.ts';
import type { ServerName } from './servers.ts';

type Row = readonly string[];

/** A table in Markdown with aligned columns: the first left, the others right. */
export function table(head: Row, rows: readonly Row[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, 4, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: Row) =>
    `| ${row.map((cell, column) => pad(cell, column, widths[column] ?? 0)).join(' | ')} |`;
  const rule = widths.map((width, column) =>
    column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}

const pad = (cell: string, column: number, width: number) =>
  column === 0 ? cell.padEnd(width) : cell.padStart(width);

/** `110.3k/s` requests, `2.31 GiB/s`. */
export function speedText(speed: number, unit: Unit): string {
  if (unit === 'requests/s') return `${(speed / 1000).toFixed(1)}k/s`;
  return speed >= GiB ? `${(speed / GiB).toFixed(2)} GiB/s` : `${Math.round(speed / MiB)} MiB/s`;
}

/** The multiple of nbdkit's speed; a mark where a goal stands and is not reached. */
function ratioText(ratio: number, goal: number | undefined): string {
  if (!Number.isFinite(ratio)) return '';
  const text = ratio.toFixed(2);
  return goal === undefined ? text : `${text} ${ratio >= goal ? '≥' : '<'} ${goal.toFixed(2)}`;
}

const GOAL_OF: Partial<Record<ServerName, (goal: Goal) => number>> = {
  sheep: ({ checksums }) => checksums,
  'sheep-nochecksums': ({ noChecksums }) => noChecksums,
};

/** Three tables: speeds with ratios to nbdkit's, CPU time, and memory with latency. */
export function report(results: readonly CaseResult[]): string {
  const names = [...new Set(results.map(({ name }) => name))];
  const servers = [...new Set(results.map(({ server }) => server))];
  const find = (name: string, server: ServerName) =>
    results.find((one) => one.name === name && one.server === server);
  const rows = (cell: (result: CaseResult) => string) =>
    names.map((name) => [
      name,
      ...servers.map((server) => {
        const result = find(name, server);
        return result === undefined ? '' : cell(result);
      }),
    ]);
  const compared = servers.filter((server) => server !== 'nbdkit');
  const ratios = names.map((name) => {
    const base = find(name, 'nbdkit')?.speed ?? Number.NaN;
    const goal = CASES.find((one) => one.name === name)?.goal;
    return compared.map((server) => {
      const ratio = (find(name, server)?.speed ?? Number.NaN) / base;
      return ratioText(ratio, goal && GOAL_OF[server]?.(goal));
    });
  });
  const speeds = rows(({ speed, unit }) => speedText(speed, unit));
  return [
    'Speed; beside it the multiple of nbdkit’s, and the goal where one is set:',
    table(
      ['case', ...servers, ...compared.map((server) => `${server} / nbdkit`)],
      speeds.map((row, index) => [...row, ...(ratios[index] ?? [])]),
    ),
    'CPU time of the server in µs for each request (of a conversion: for each MiB):',
    table(
      ['case', ...servers],
      rows(({ cpuUs }) => cpuUs.toFixed(1)),
    ),
    'Latency, mean / 99 % / 99.9 %, in µs:',
    table(
      ['case', ...servers],
      rows(({ latencyUs }) =>
        latencyUs === undefined
          ? ''
          : [latencyUs.mean, latencyUs.p99, latencyUs.p999].map((us) => us.toFixed(0)).join(' / '),
      ),
    ),
    'Resident memory of the server at its highest, in MiB:',
    table(
      ['case', ...servers],
      rows(({ peakBytes }) => (peakBytes / MiB).toFixed(0)),
    ),
  ].join('\n\n');
}
