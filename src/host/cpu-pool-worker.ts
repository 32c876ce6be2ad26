import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { contentWork } from '../base/content.ts';
import type { WorkAnswer, WorkerData, WorkRequest } from './cpu-work.ts';

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
const { nice }: WorkerData = workerData;
if (nice > 0) beNice();
parentPort?.on('message', (request: WorkRequest) => {
  parentPort?.postMessage(answerTo(request));
});

function answerTo({ number, kind, job }: WorkRequest): WorkAnswer {
  try {
    switch (kind) {
      case 'name':
        return { number, result: contentWork.name(job) };
      case 'compress':
        return { number, result: contentWork.compress(job) };
      case 'prove':
        return { number, result: contentWork.prove(job) };
    }
  } catch (error) {
    return { number, failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Linux keeps a priority for each thread, and setpriority(2) takes the ID of one. */
function beNice(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), nice);
  } catch {
    // Without /proc or the right to it: the work counts, at whatever priority.
  }
}
