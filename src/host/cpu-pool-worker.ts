import { parentPort, workerData } from 'node:worker_threads';
import { type CodecName, contentWork } from '../base/content.ts';
import type { WorkAnswer, WorkerData, WorkRequest } from './cpu-work.ts';

/** With less of a processor than this, compressing less makes up for some of it. */
const HURRIED_BELOW = 0.7;
/** zstd takes 0.8 of its time at these, and half of it for what hardly gets shorter. */
const HURRIED_LEVEL: Readonly<Record<CodecName, number>> = { zstd: 1, zlib: 1, none: 0 };
/** How much the latest job says of it. */
const WEIGHT = 0.25;

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
const { yielding }: WorkerData = workerData;
// What it takes is loaded only where it is used: a backup of little is over in half a second.
if (yielding !== undefined) {
  const { yieldToOthers } = await import('./thread-priority.ts');
  yieldToOthers(yielding);
}
/** How much of a processor this thread has had lately while it worked. */
let share = 1;

parentPort?.on('message', (request: WorkRequest) => {
  const beganMs = performance.now();
  const began = process.threadCpuUsage();
  const answer = answerTo(request);
  const { user, system } = process.threadCpuUsage(began);
  const tookMs = performance.now() - beganMs;
  if (tookMs > 0) share += WEIGHT * (Math.min(1, (user + system) / 1000 / tookMs) - share);
  parentPort?.postMessage(answer);
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

function levelOf({ codec, level }: { codec: CodecName; level: number }): number {
  const hurried = yielding !== undefined && share < HURRIED_BELOW;
  return hurried ? Math.min(level, HURRIED_LEVEL[codec]) : level;
}
