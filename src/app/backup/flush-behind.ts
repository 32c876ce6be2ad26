import { MiB } from '../../base/units.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { WriteCall } from '../../contracts/call.ts';

type Flushed = Pick<BlockDevice, 'info' | 'read' | 'write' | 'writeZeroes' | 'flush'>;

/** So much is written before it is made stable beside what follows. */
const FLUSHED_BYTES = 64 * MiB;

/**
 * A disk that is flushed again and again while it is filled, one flush at a time: its medium works
 * while whoever writes computes, and the last flush finds little to do. After a flush has failed
 * everything fails with it, because a later one may not tell.
 */
export class FlushBehind implements Flushed {
  readonly #device: Flushed;
  readonly #everyBytes: number;
  /** Since the last flush began. */
  #writtenBytes = 0;
  #flushing: Promise<void> | undefined;
  #failure: unknown;

  constructor(device: Flushed, everyBytes = FLUSHED_BYTES) {
    this.#device = device;
    this.#everyBytes = everyBytes;
  }

  get info(): BlockDevice['info'] {
    return this.#device.info;
  }

  read(at: number, into: Uint8Array) {
    return this.#device.read(at, into);
  }

  async write(at: number, from: Uint8Array, call: WriteCall): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#device.write(at, from, call);
    this.#writtenBytes += from.length;
    if (this.#writtenBytes < this.#everyBytes || this.#flushing !== undefined) return;
    this.#writtenBytes = 0;
    this.#flushing = this.#flush();
  }

  writeZeroes(...asked: Parameters<BlockDevice['writeZeroes']>) {
    return this.#device.writeZeroes(...asked);
  }

  /** All that was written is stable when this settles. */
  async flush(): Promise<void> {
    await this.#flushing;
    if (this.#failure !== undefined) throw this.#failure;
    await this.#device.flush();
  }

  async #flush(): Promise<void> {
    try {
      await this.#device.flush();
    } catch (error) {
      this.#failure = error;
    } finally {
      this.#flushing = undefined;
    }
  }
}
