import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { type CodecName, contentWork } from '../base/content.ts';
import type { WorkAnswer, WorkerData, WorkRequest, WorkResult } from './cpu-work.ts';

/** Others want the processors while a job gets less of one than this. */
const CROWDED_BELOW = 0.7;
/** Then: zstd takes 0.7 of its time at these, and half of it for what hardly gets shorter. */
const CROWDED_LEVEL: Readonly<Record<CodecName, number>> = { zstd: 1, zlib: 1, none: 0 };
/** How much the latest job says of the share. */
const WEIGHT = 0.25;
/** As of nice(1): beside a thread of the usual priority that never rests, a tenth of a processor. */
const NICE = 10;

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
const { yields }: WorkerData = workerData;
if (yields) yieldToOthers();
/** How much of a processor this thread has had lately while it worked. */
let share = 1;
const isCrowded = () => yields && share < CROWDED_BELOW;

parentPort?.on('message', (request: WorkRequest) => {
  const beganMs = performance.now();
  const began = process.threadCpuUsage();
  const outcome = outcomeOf(request);
  const { user, system } = process.threadCpuUsage(began);
  const tookMs = performance.now() - beganMs;
  if (tookMs > 0) share += WEIGHT * (Math.min(1, (user + system) / 1000 / tookMs) - share);
  const answer: WorkAnswer = { number: request.number, crowded: isCrowded(), ...outcome };
  parentPort?.postMessage(answer);
});

function outcomeOf({ kind, job }: WorkRequest): { result: WorkResult } | { failure: string } {
  try {
    switch (kind) {
      case 'name':
        return { result: contentWork.name(job) };
      case 'compress':
        return { result: contentWork.compress({ ...job, level: levelOf(job) }) };
      case 'prove':
        return { result: contentWork.prove(job) };
    }
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

function levelOf({ codec, level }: { codec: CodecName; level: number }): number {
  return isCrowded() ? Math.min(level, CROWDED_LEVEL[codec]) : level;
}

/**
 * Linux keeps a priority for each thread, and setpriority(2) takes the ID of one. Not SCHED_IDLE: locks
 * of the C library and of Node are also those of the threads that serve, and might be held for a second.
 */
function yieldToOthers(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), NICE);
  } catch {
    // Without /proc or the right to it: the work counts, at whatever priority.
  }
}
