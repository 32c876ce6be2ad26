import { pino } from 'pino';
import { plainFacts } from '../base/errors.ts';
import type { Log, LogLevel } from '../base/log.ts';
import { MiB } from '../base/units.ts';

export interface NodeLog extends Log {
  /** Settles once everything has been handed to the operating system; nothing comes after it. */
  close(): Promise<void>;
  /** Hands over what it can at once, for a process that must not wait. */
  flushNow(): void;
}

/** What nobody has read yet; beyond it, events are dropped. */
const WAITING_BYTES_MAX = 4 * MiB;

/** How long the last events may take to be read. */
const CLOSE_MS = 2000;

/**
 * Events on file descriptor `fd` (2 is standard error), one line each: JSON for programs, or, with
 * `readable`, a line for people.
 */
export function openNodeLog(fd: number, level: LogLevel, readable: boolean): NodeLog {
  // Never waited for: a reader of the log that is stuck must not stop the disks.
  const destination = pino.destination({ dest: fd, sync: false, maxLength: WAITING_BYTES_MAX });
  // A terminal that was closed, a reader that has ended: no reason to stop serving either. What is
  // left is dropped, because pino would try to write it again and again when the process ends.
  let broken = false;
  destination.on('error', () => {
    broken = true;
    destination.destroy();
  });
  const stream = {
    write: (line: string) => {
      if (!broken) destination.write(readable ? readableLine(line) : line);
    },
  };
  const logger = pino(
    {
      level,
      base: null,
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  return {
    event: (eventLevel, name, facts = {}) => logger[eventLevel](plainFacts(facts), name),
    close: () =>
      new Promise((settle) => {
        if (broken) {
          settle();
          return;
        }
        destination.once('close', settle); // also where nobody reads any more
        setTimeout(settle, CLOSE_MS); // or somebody is stuck
        destination.end();
      }),
    flushNow: () => {
      if (broken) return;
      try {
        destination.flushSync();
      } catch {
        // Nobody reads any more; there is nobody left to tell.
      }
    },
  };
}

function readableLine(line: string): string {
  const { time, level, event, ...facts }: Record<string, unknown> = JSON.parse(line);
  return `${readableEvent(String(time), String(level), String(event), facts)}\n`;
}

/**
 * `12:30:01.123 warn  farm.opened directory=./data`.
 * @param time  ISO 8601, in UTC
 */
export function readableEvent(
  time: string,
  level: string,
  event: string,
  facts: Readonly<Record<string, unknown>>,
): string {
  const shown = Object.entries(facts).map(([name, value]) => {
    const text = String(value);
    return `${name}=${/^[\w./:@%,+-]+$/.test(text) ? text : JSON.stringify(text)}`;
  });
  // Whatever a stranger put into a name moves no cursor.
  return [time.slice(11, 23), level.padEnd(5), event, ...shown].join(' ').replace(/\p{Cc}+/gu, ' ');
}
