import { Command, InvalidArgumentError } from 'commander';
import type { StatsView } from '../app/admin-views.ts';
import type { Collie } from './collie-command.ts';
import { topLines, topSample } from './top-sample.ts';

const INTERVAL_S_DEFAULT = 1;
/** Where nothing tells how large the screen is, because it is none. */
const NO_SCREEN = { columns: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY };
/** Cursor to the top, and nothing below it. */
const CLEAR = '\u001b[H\u001b[J';

/** `collie top`. */
export function topCommand({ call, out, json, sleep, screen }: Collie): Command {
  return new Command('top')
    .description('what clients do, how long it takes and what waits; until Ctrl-C')
    .option('--interval <seconds>', 'how often', seconds, INTERVAL_S_DEFAULT)
    .option('--count <n>', 'end after so many', count)
    .action(async ({ interval, count: most }: { interval: number; count?: number }) => {
      let before = await call<StatsView>('GET', '/v1/stats');
      for (let told = 0; told < (most ?? Number.POSITIVE_INFINITY); told += 1) {
        await sleep(interval * 1000);
        const after = await call<StatsView>('GET', '/v1/stats');
        const sample = topSample(before, after);
        before = after;
        if (json()) {
          out.line(JSON.stringify(sample));
          continue;
        }
        const size = screen();
        const lines = topLines(sample, size ?? NO_SCREEN);
        if (size !== undefined) out.line(CLEAR + lines.join('\n'));
        else out.line(`${told > 0 ? '\n' : ''}${lines.join('\n')}`);
      }
    });
}

function seconds(text: string): number {
  const value = Number(text);
  if (/^[\d.]+$/.test(text) && value >= 0.1 && value <= 86_400) return value;
  throw new InvalidArgumentError('Give seconds, from 0.1 to 86400.');
}

function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give a whole number from 1 on.');
}
