import { SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { anySignal } from '../base/signals.ts';
import type { Call } from '../contracts/call.ts';
import type { Client } from '../contracts/exports.ts';
import type { Clock } from '../contracts/seams.ts';
import { exportName, type VolumeRecord } from '../vdi/record.ts';
import type { CheckLine } from './admin-views.ts';
import { checkDevice } from './check-device.ts';
import type { Volumes } from './volumes.ts';

/** As whom a check uses what it reads: nobody deletes it meanwhile. */
const READER: Client = { name: 'collie vdi check', transport: 'unix' };
/** So long checks work before they rest. */
const WORK_MS = 5;
/** And rest at most, each of them. */
const REST_MS_MAX = 100;
/** How often a check says how far it is. */
const PROGRESS_MS = 500;
/** Flaws told one by one; more are only counted. */
const FLAWS_TOLD_MAX = 1000;

/**
 * Checks of VDIs and snapshots while they are served. However many run, together they work half of
 * the time at most, a few milliseconds at once. Disposing stops them all.
 */
export class Checks implements AsyncDisposable {
  readonly #volumes: Pick<Volumes, 'open' | 'countObjects'>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();

  constructor(volumes: Pick<Volumes, 'open' | 'countObjects'>, clock: Clock, log: Log) {
    this.#volumes = volumes;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * One check, line by line; the last one is its result. Leaving early ends it, aborting at once.
   * @throws SheepError `ERR_NOT_FOUND`; `ERR_SHUTDOWN` if it is stopped
   */
  async *run(record: VolumeRecord, { signal }: Call = {}): AsyncGenerator<CheckLine> {
    const ended = Promise.withResolvers<void>();
    this.#running.add(ended.promise);
    try {
      yield* this.#lines(record, anySignal(signal, this.#stop.signal));
    } finally {
      this.#running.delete(ended.promise);
      ended.resolve();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new SheepError('ERR_SHUTDOWN', 'sheep is stopping; check it again later'));
    await Promise.all(this.#running);
  }

  async *#lines(record: VolumeRecord, signal: AbortSignal): AsyncGenerator<CheckLine> {
    const name = exportName(record);
    // By its ID: its tag may be another snapshot's by now.
    const opened = record.state === 'snapshot' ? `${record.name}@${record.vid}` : name;
    await using device = await this.#volumes.open(opened, READER);
    if (device === undefined) {
      throw new SheepError('ERR_NOT_FOUND', `'${name}' was deleted meanwhile`, { name });
    }
    // What cannot be counted is found by reading, and told.
    const count = await this.#volumes.countObjects(opened).catch(() => undefined);
    let toldMs = Number.NEGATIVE_INFINITY;
    let flawCount = 0;
    let [objects, readBytes] = [0, 0];
    for await (const step of checkDevice(device, record.objectBytes, this.#pacer(signal))) {
      for (const flaw of step.flaws) {
        flawCount += 1;
        if (flawCount <= FLAWS_TOLD_MAX) yield { is: 'flaw', flaw };
      }
      ({ objects, readBytes } = step);
      const now = this.#clock.monotonicMs();
      if (now - toldMs < PROGRESS_MS) continue;
      toldMs = now;
      yield { is: 'progress', objects, ...(count && { totalObjects: count.all }) };
    }
    const level = flawCount === 0 ? 'info' : 'error';
    this.#log.event(level, 'vdi.checked', { vdi: name, objects, readBytes, flawCount });
    yield { is: 'end', checked: { export: name, objects, readBytes, flawCount } };
  }

  /** Lets others go first, and rests as long as this check and its likes have worked. */
  #pacer(signal: AbortSignal): () => Promise<void> {
    let resumedMs = this.#clock.monotonicMs();
    let workedMs = 0;
    return async () => {
      signal.throwIfAborted();
      workedMs += this.#clock.monotonicMs() - resumedMs;
      if (workedMs < WORK_MS) await this.#clock.yield();
      else {
        const restMs = Math.min(workedMs, REST_MS_MAX) * this.#running.size;
        await this.#clock.sleep(restMs, { signal });
        workedMs = 0;
      }
      resumedMs = this.#clock.monotonicMs();
    };
  }
}
