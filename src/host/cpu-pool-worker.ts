import { parentPort } from 'node:worker_threads';
import { answerTo, type WorkRequest } from './cpu-work.ts';

/** One thread of node-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
parentPort?.on('message', (request: WorkRequest) => parentPort?.postMessage(answerTo(request)));
