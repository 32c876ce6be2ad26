import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Histogram, quantileMs, since } from '../base/histogram.ts';

/** How often a timer looks how late it is. */
const TICK_MS = 10;
/** Timers are exact to about this. */
const GRAIN_MS = 1;
/** What is "lately": one to two of these. */
const LATELY_MS = 30_000;

/**
 * Old objects are collected when they are half as many again as the last collection left alive. By
 * itself V8 lets them become some four times as many: what open objects leave behind when they are
 * closed would be the larger part of the memory. A V8 that does not know the flag says so and goes on.
 */
export function collectOften(): void {
  setFlagsFromString('--heap-growing-percent=50');
}

/** Watches this process from now on. */
export function watchProcess() {
  const loopDelays = new Histogram();
  const nothing = loopDelays.snapshot();
  let [before, latest] = [nothing, nothing];
  let dueMs = performance.now() + TICK_MS;
  let turnMs = dueMs + LATELY_MS;
  const look = () => {
    const nowMs = performance.now();
    loopDelays.add(Math.max(0, nowMs - dueMs - GRAIN_MS));
    dueMs = nowMs + TICK_MS;
    if (nowMs < turnMs) return;
    turnMs = nowMs + LATELY_MS;
    before = latest;
    latest = loopDelays.snapshot();
  };
  setInterval(look, TICK_MS).unref();
  return () => {
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const delays = loopDelays.snapshot();
    const lately = since(before, delays);
    const lateMs = (share: number) => Math.round(quantileMs(lately, share) ?? 0);
    return {
      residentBytes: rss,
      heapBytes: heapUsed,
      cpuMs: Math.round((user + system) / 1000),
      loopDelays: delays,
      eventLoopDelayMs: { p50: lateMs(0.5), p99: lateMs(0.99), max: lateMs(1) },
    };
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
