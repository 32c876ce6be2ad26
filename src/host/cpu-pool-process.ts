import { writeFileSync } from 'node:fs';
import process from 'node:process';
import type { CodecName } from '../base/content.ts';
import { answerTo, type WorkRequest } from './cpu-work.ts';
import { readPlaces, type SentRequest, SHARED_FD } from './process-messages.ts';
import { yieldAsFarAs } from './scheduling.ts';
import { mapPieces } from './shared-memory.ts';

/** Others want the processors while jobs get less of one than this. */
const CROWDED_BELOW = 0.7;
/** Over so much work: the kernel counts the time of a thread that runs in steps of milliseconds. */
const MEASURED_MS = 50;
/** Then: zstd takes 0.7 of its time at these, and half of it for what hardly gets shorter. */
const CROWDED_LEVEL: Readonly<Record<CodecName, number>> = { zstd: 1, zlib: 1, none: 0 };

/** One process of process-cpu-pool.ts. It does the jobs that it is sent, one after the other. */
yieldAsFarAs(process.argv[2] === 'nice' ? 'nice' : 'idle');
dieFirst();
const pieceAt = mapPieces(SHARED_FD);
let isCrowded = false;
let workedMs = 0;
let cpuMs = 0;

process.on('message', (sent: SentRequest) => {
  const beganMs = performance.now();
  const began = process.cpuUsage();
  // Where nobody is left to be told, the next thing is the end.
  process.send?.(answerTo(eased(readPlaces(sent, pieceAt))), () => undefined);
  const { user, system } = process.cpuUsage(began);
  workedMs += performance.now() - beganMs;
  cpuMs += (user + system) / 1000;
  if (workedMs < MEASURED_MS) return;
  isCrowded = cpuMs < CROWDED_BELOW * workedMs;
  [workedMs, cpuMs] = [0, 0];
});
// With whoever sends jobs they end, whatever became of it; and not with what is sent to all of a group or
// a service, because who was asked to stop ends what it does in its own way.
process.on('disconnect', () => process.exit());
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);

/** Where memory runs out: what is done here can be done again, and who serves should not be chosen. */
function dieFirst(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '500');
  } catch {
    // Then it stands as high as whoever started it.
  }
}

/** Names are those of the content, so nothing but the space is another where it is compressed less. */
function eased(request: WorkRequest): WorkRequest {
  if (!isCrowded || request.kind !== 'compress') return request;
  const { job } = request;
  return { ...request, job: { ...job, level: Math.min(job.level, CROWDED_LEVEL[job.codec]) } };
}
