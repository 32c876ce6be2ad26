import { Command } from 'commander';
import type { EventView } from '../app/admin-views.ts';
import type { Collie } from './collie-command.ts';

/** `collie events`. */
export function eventsCommand({ messages, out, json }: Collie): Command {
  return new Command('events')
    .description('what the sheep does, as it happens; until Ctrl-C')
    .option('--since-start', 'first what has happened before and is still known')
    .action(async ({ sinceStart }: { sinceStart?: true }) => {
      const { readableEvent } = await import('../host/node-log.ts');
      const path = `/v1/events${sinceStart === true ? '?after=0' : ''}`;
      await messages(path, (text) => {
        if (json()) {
          out.line(text);
          return;
        }
        const { timeMs, level, event, facts }: EventView = JSON.parse(text);
        out.line(readableEvent(new Date(timeMs).toISOString(), level, event, facts));
      });
    });
}
