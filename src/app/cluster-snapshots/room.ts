import { SheepError } from '../../base/errors.ts';
import { MiB } from '../../base/units.ts';
import { FARM_LIMITS, reservedBytesOn } from '../../farm/limits.ts';
import type { SnapshotStore } from '../../farm/snapshots/store.ts';

/** After so much that was stored it is looked again. */
const STEP_BYTES = 64 * MiB;

/**
 * Ends what fills the store while there is room left for VDIs: on one medium with them it would
 * otherwise be the guests that are told that it is full.
 */
export class Room {
  readonly #store: SnapshotStore;
  readonly #full = new AbortController();
  #lookedAtBytes = 0;

  constructor(store: SnapshotStore) {
    this.#store = store;
  }

  /** Aborted once there is too little. */
  get signal(): AbortSignal {
    return this.#full.signal;
  }

  /** @throws SheepError `ERR_NO_SPACE` */
  async check(): Promise<void> {
    await this.#look();
    this.#full.signal.throwIfAborted();
  }

  /** So much was stored by now. */
  stored(bytes: number): void {
    if (bytes < this.#lookedAtBytes + STEP_BYTES) return;
    this.#lookedAtBytes = bytes;
    // What cannot be told now is found by whoever writes.
    this.#look().catch(() => undefined);
  }

  async #look(): Promise<void> {
    const { disk, directory } = this.#store.options;
    const { totalBytes, freeBytes } = await disk.space(directory);
    // Below the reserve VDIs get none.
    const neededBytes = 2 * reservedBytesOn(totalBytes, FARM_LIMITS);
    if (freeBytes >= neededBytes) return;
    const message =
      `the disk of ${directory} has ${freeBytes} bytes left, and the last ${neededBytes} are for ` +
      "VDIs; delete what is not needed, then 'collie cluster gc'";
    this.#full.abort(new SheepError('ERR_NO_SPACE', message, { freeBytes, neededBytes }));
  }
}
