import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const NS_PER_MS = 1e6;
/** How often a timer looks how late it is. */
const RESOLUTION_MS = 10;

/** Watches this process; each call tells of the time since the one before. */
export function watchProcess() {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  return () => {
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const lateMs = (ns: number) => Math.max(0, Math.round(ns / NS_PER_MS - RESOLUTION_MS));
    const stats = {
      residentBytes: rss,
      heapBytes: heapUsed,
      cpuMs: Math.round((user + system) / 1000),
      eventLoopDelayMs: {
        p50: lateMs(delay.percentile(50)),
        p99: lateMs(delay.percentile(99)),
        max: lateMs(delay.max),
      },
    };
    delay.reset();
    return stats;
  };
}

/** How many files this process may have open: its soft limit, which Node raises to the hard one. */
export function openFilesMax(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Number.MAX_SAFE_INTEGER : Number(soft);
}

/** The memory of the machine, or of the control group that this process is confined to. */
export function memoryBytes(): number {
  const confined = process.constrainedMemory();
  return confined > 0 ? Math.min(confined, totalmem()) : totalmem();
}
