import { describeError, SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { Clock } from '../contracts/seams.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import { removeVolume } from '../vdi/removal.ts';

/** What could not be removed, because the disk failed, is tried again after this time. */
const RETRY_MS = 60_000;

/** Removes the objects of deleted VDIs, also those that an earlier process has left. */
export class Deletions implements AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Map<Vid, Promise<void>>();
  readonly #stop = new AbortController();
  #rounds: Promise<void> | undefined;

  constructor(directory: VdiDirectory, store: ObjectStore, clock: Clock, log: Log) {
    this.#directory = directory;
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** Finishes what was left, in the background; before the first VDI is made. */
  async start(): Promise<void> {
    await this.#directory.abandonUnfinished();
    this.#rounds = this.#goRound();
  }

  /** Settles once no object of the VDI is left; shared by all who ask. */
  finish(record: VolumeRecord): Promise<void> {
    const running = this.#running.get(record.vid) ?? this.#remove(record);
    this.#running.set(record.vid, running);
    return running;
  }

  /** VDIs whose objects are being removed. */
  pending(): Promise<VolumeRecord[]> {
    return this.#directory.deletions();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(
      new SheepError(
        'ERR_SHUTDOWN',
        'sheep is stopping; the deletion is finished at its next start',
      ),
    );
    await this.#rounds;
    await Promise.allSettled(this.#running.values());
  }

  async #goRound(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for (const record of await this.#directory.deletions()) await this.finish(record);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.event('error', 'vdi.deletion-failed', { cause: describeError(error) });
      }
      await this.#clock.sleep(RETRY_MS, { signal }).catch(() => undefined);
    }
  }

  async #remove(record: VolumeRecord): Promise<void> {
    try {
      await removeVolume({ store: this.#store, record }, { signal: this.#stop.signal });
      await this.#directory.forget(record.vid);
      this.#log.event('info', 'vdi.deleted', { vdi: record.name, vid: record.vid });
    } finally {
      this.#running.delete(record.vid);
    }
  }
}
