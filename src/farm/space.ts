import { SheepError } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Disk } from '../contracts/disk.ts';
import { type FarmLimits, reservedBytesOn } from './limits.ts';

/** What a step asked for, and what the file system had. */
interface Bought {
  readonly wantedBytes: number;
  readonly gotBytes: number;
  /** Nothing was taken or written meanwhile: it had no more than that. */
  readonly exact: boolean;
}

/** Room for one change; what it takes has to be written, or given up, before it is disposed of. */
export interface Claim extends Disposable {
  /** @throws SheepError `ERR_NO_SPACE` */
  take(blocks: number): Promise<void>;
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
  /** Of claims: not all of it is written, and what is not the file system takes for free. */
  #claimedBytes = 0;
  /** All that was ever taken. */
  #takenBytes = 0;
  /** How many claims ended that had taken something. */
  #claimsEnded = 0;
  #asking: Promise<Bought> | undefined;

  constructor(disk: Disk, directory: string, limits: FarmLimits) {
    this.#disk = disk;
    this.#directory = directory;
    this.#limits = limits;
  }

  /** Takes room for so many blocks, to be written in this turn, if it is there already. */
  takeNow(blocks: number): boolean {
    const bytes = blocks * BLOCK_BYTES;
    if (bytes > this.#leftBytes) return false;
    this.#leftBytes -= bytes;
    this.#takenBytes += bytes;
    return true;
  }

  claim(): Claim {
    let claimedBytes = 0;
    return {
      take: async (blocks) => {
        await this.#take(blocks);
        claimedBytes += blocks * BLOCK_BYTES;
      },
      [Symbol.dispose]: () => {
        this.#claimedBytes -= claimedBytes;
        if (claimedBytes > 0) this.#claimsEnded += 1;
      },
    };
  }

  async #take(blocks: number): Promise<void> {
    while (!this.takeNow(blocks)) {
      this.#asking ??= this.#buy(blocks).finally(() => {
        this.#asking = undefined;
      });
      const { wantedBytes, gotBytes, exact } = await this.#asking;
      // Others who waited for it may have taken all that was bought: then it is tried again.
      const refused = gotBytes < Math.min(wantedBytes, blocks * BLOCK_BYTES);
      if (refused && exact) await this.#refuse(blocks);
    }
    this.#claimedBytes += blocks * BLOCK_BYTES;
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
    const ended = this.#claimsEnded;
    const before = this.#takenBytes;
    const claimedBytes = this.#claimedBytes;
    const { freeBytes, reservedBytes } = await this.state();
    const sinceBytes = this.#takenBytes - before;
    const roomBytes = freeBytes - reservedBytes - claimedBytes - sinceBytes;
    const wantedBytes = Math.max(this.#limits.spaceStepBytes, blocks * BLOCK_BYTES);
    const gotBytes = Math.max(0, Math.min(wantedBytes, roomBytes));
    this.#leftBytes = gotBytes;
    return { wantedBytes, gotBytes, exact: sinceBytes === 0 && ended === this.#claimsEnded };
  }
}
