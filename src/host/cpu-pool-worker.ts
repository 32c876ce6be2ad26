import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { type CodecName, contentWork } from '../base/content.ts';
import type { WorkAnswer, WorkerData, WorkRequest } from './cpu-work.ts';

/** With less of a processor than this, compressing less makes up for some of it. */
const HURRIED_BELOW = 0.7;
/** zstd takes 0.7 of its time at this, and half of it for what hardly gets shorter. */
const HURRIED_LEVEL: Readonly<Record<CodecName, number>> = { zstd: 1, zlib: 1, none: 0 };
/** How much the latest job says of the share. */
const WEIGHT = 0.25;

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
const { nice }: WorkerData = workerData;
if (nice > 0) beNice();
/** How much of a processor this thread has had lately while it worked. */
let share = 1;

parentPort?.on('message', (request: WorkRequest) => {
  const beganMs = performance.now();
  const began = process.threadCpuUsage();
  parentPort?.postMessage(answerTo(request));
  const { user, system } = process.threadCpuUsage(began);
  const tookMs = performance.now() - beganMs;
  if (tookMs > 0) share += WEIGHT * (Math.min(1, (user + system) / 1000 / tookMs) - share);
});

function answerTo({ number, kind, job }: WorkRequest): WorkAnswer {
  try {
    switch (kind) {
      case 'name':
        return { number, result: contentWork.name(job) };
      case 'compress':
        return { number, result: contentWork.compress({ ...job, level: levelOf(job) }) };
      case 'prove':
        return { number, result: contentWork.prove(job) };
    }
  } catch (error) {
    return { number, failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Who yields is in nobody's way for long: what is compressed less is done sooner. */
function levelOf({ codec, level }: { codec: CodecName; level: number }): number {
  return nice > 0 && share < HURRIED_BELOW ? Math.min(level, HURRIED_LEVEL[codec]) : level;
}

/**
 * Linux keeps a priority for each thread, and setpriority(2) takes the ID of one. Not SCHED_IDLE: locks
 * of the C library and of Node are also those of the threads that serve, and might be held for a second.
 */
function beNice(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), nice);
  } catch {
    // Without /proc or the right to it: the work counts, at whatever priority.
  }
}
