import { SheepError } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk } from '../contracts/disk.ts';
import { type FarmLimits, reservedBytesOn } from './limits.ts';

/** What a step asked for, and what the file system had. */
interface Bought {
  readonly wantedBytes: number;
  readonly gotBytes: number;
}

/**
 * Room for new blocks. It is bought from the file system in steps, because asking for every write
 * would cost as much as the write, and never below a reserve, so that deletes, flushes and shutdown
 * work on a full disk. Overwriting what is allocated needs none.
 */
export class Space {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #limits: FarmLimits;
  #leftBytes = 0;
  #asking: Promise<Bought> | undefined;

  constructor(disk: Disk, directory: string, limits: FarmLimits) {
    this.#disk = disk;
    this.#directory = directory;
    this.#limits = limits;
  }

  /** Takes room for so many blocks if it is there already. */
  takeNow(blocks: number): boolean {
    const bytes = blocks * BLOCK_BYTES;
    if (bytes > this.#leftBytes) return false;
    this.#leftBytes -= bytes;
    return true;
  }

  /** @throws SheepError `ERR_NO_SPACE` */
  async take(blocks: number): Promise<void> {
    while (!this.takeNow(blocks)) {
      this.#asking ??= this.#buy(blocks).finally(() => {
        this.#asking = undefined;
      });
      const { wantedBytes, gotBytes } = await this.#asking;
      // Others who waited for it may have taken all that was bought: then it is tried again.
      if (gotBytes < Math.min(wantedBytes, blocks * BLOCK_BYTES)) await this.#refuse(blocks);
    }
  }

  async #refuse(blocks: number): Promise<never> {
    const { freeBytes, reservedBytes } = await this.state();
    throw new SheepError(
      'ERR_NO_SPACE',
      `the disk of ${this.#directory} is full: ${freeBytes} bytes free, ${reservedBytes} of them reserved`,
      { freeBytes, reservedBytes, wantedBytes: blocks * BLOCK_BYTES },
    );
  }

  async state(): Promise<{ totalBytes: number; freeBytes: number; reservedBytes: number }> {
    const { totalBytes, freeBytes } = await this.#disk.space(this.#directory);
    return { totalBytes, freeBytes, reservedBytes: reservedBytesOn(totalBytes, this.#limits) };
  }

  async #buy(blocks: number): Promise<Bought> {
    const { freeBytes, reservedBytes } = await this.state();
    const wantedBytes = Math.max(this.#limits.spaceStepBytes, blocks * BLOCK_BYTES);
    const gotBytes = Math.max(0, Math.min(wantedBytes, freeBytes - reservedBytes));
    this.#leftBytes = gotBytes;
    return { wantedBytes, gotBytes };
  }
}
