import { parentPort } from 'node:worker_threads';
import { contentWork } from '../base/content.ts';
import type { WorkAnswer, WorkRequest } from './cpu-work.ts';

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
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
