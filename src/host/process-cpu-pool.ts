import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { WorkAnswer } from './cpu-work.ts';
import { writePlaces } from './process-messages.ts';
import { SharedMemory } from './shared-memory.ts';
import { type PoolWorker, type WorkerEvents, WorkerPool } from './worker-pool.ts';

const PROGRAM = fileURLToPath(
  new URL(`./cpu-pool-process${extname(import.meta.url)}`, import.meta.url),
);
/** What a job leaves behind is garbage at once; and no threads of V8 beside the one that works. */
const FLAGS = ['--max-semi-space-size=1', '--single-threaded'];

/** Sheep itself reads and writes 0.8 ms for a MiB of which one of them works 5: more would wait for it. */
const PROCESSES_MAX = 8;

/**
 * Processes that get what everybody else leaves of the processors, and a tenth of one at least: for a
 * daemon that serves others meanwhile. Not threads: one that is kept from the processors may hold a lock
 * of Node's or of the C library's, and who serves would wait for it.
 */
export function processCpuPool(processes: number = availableParallelism()): WorkerPool {
  const memory = new SharedMemory();
  return new WorkerPool(Math.min(processes, PROCESSES_MAX), {
    one: 'a process',
    helps: false,
    memory: (bytes) => memory.take(bytes),
    giveBack: (piece) => memory.giveBack(piece),
    start: (events) => start(memory, 'idle', events),
    startSpare: (events) => start(memory, 'nice', events),
    end: () => memory[Symbol.asyncDispose](),
  });
}

function start(memory: SharedMemory, how: 'idle' | 'nice', events: WorkerEvents): PoolWorker {
  const child = fork(PROGRAM, [how], {
    execArgv: FLAGS,
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', memory.fd, 'ipc'],
  });
  child.on('message', (answer: WorkAnswer) => events.answered(answer));
  child.on('error', (cause) => {
    if (child.pid === undefined) events.failed(cause);
    // It may be at work: its jobs are over when it is.
    else child.kill('SIGKILL');
  });
  child.on('exit', (status, signal) => {
    events.ended(signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`);
  });
  return {
    post: (request) => {
      // Else what is to be told of it is on its way.
      if (child.connected) child.send(writePlaces(request, (bytes) => memory.placeOf(bytes)));
    },
    ref: () => {
      child.ref();
      child.channel?.ref();
    },
    unref: () => {
      child.unref();
      child.channel?.unref();
    },
    end: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.ref();
  child.kill('SIGKILL');
  await exited;
}
