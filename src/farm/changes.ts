import { BLOCK_BYTES, roundDown, roundUp } from '../base/units.ts';
import type { ActivityLog } from './activity-log.ts';
import type { Flusher } from './flusher.ts';
import type { Inheritance } from './inheritance.ts';
import type { OpenObject } from './open-object.ts';
import type { Claim } from './space.ts';

export interface ChangesParts {
  readonly activity: ActivityLog;
  readonly flusher: Flusher;
  readonly inheritance: Inheritance;
}

/** Makes changes of any range into changes of whole blocks. The objects are listed and alone ours. */
export class Changes {
  readonly #parts: ChangesParts;

  constructor(parts: ChangesParts) {
    this.#parts = parts;
  }

  /** Whole blocks; of those that an object with origins would inherit none may become zero here. */
  writeBlocks(object: OpenObject, at: number, from: Uint8Array): void {
    try {
      this.#changed(object, object.writeNow(at, from));
    } catch (error) {
      this.#changed(object, object.brokenOff(at, from.length));
      throw error;
    }
  }

  async #zeroBlocks(object: OpenObject, at: number, length: number, keep: boolean): Promise<void> {
    if (object.origins !== undefined) await this.#parts.inheritance.beforeZero(object, at, length);
    try {
      await object.zero(at, length, keep);
      this.#changed(object, object.zeroed(at, length, keep));
    } catch (error) {
      this.#changed(object, object.brokenOff(at, length));
      throw error;
    }
  }

  #changed(object: OpenObject, newlyUnhomed: number): void {
    object.changedRound = this.#parts.activity.round;
    this.#parts.flusher.changed(object, newlyUnhomed);
  }

  /** Parts of blocks at both ends are read, patched and written whole. */
  async write(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    const end = at + from.length;
    const first = roundUp(at, BLOCK_BYTES);
    const last = roundDown(end, BLOCK_BYTES);
    if (at < first) await this.#patch(object, at, from.subarray(0, Math.min(first, end) - at));
    if (first < last) await this.#writeWhole(object, first, from.subarray(first - at, last - at));
    if (last < end && last >= first) await this.#patch(object, last, from.subarray(last - at));
  }

  async #writeWhole(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    if (object.origins !== undefined) await this.#parts.inheritance.beforeWrite(object, at, from);
    this.writeBlocks(object, at, from);
  }

  async #patch(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    const block = roundDown(at, BLOCK_BYTES);
    const bytes = new Uint8Array(BLOCK_BYTES);
    await this.#parts.inheritance.readAny(object, block, bytes);
    bytes.set(from, at - block);
    await this.#writeWhole(object, block, bytes);
  }

  async zero(
    object: OpenObject,
    at: number,
    length: number,
    keepAllocated: boolean,
    claim: Claim,
  ): Promise<void> {
    if (object.origins !== undefined && !keepAllocated) {
      await claim.take(this.#parts.inheritance.partsIn(object, at, length));
    }
    const end = at + length;
    // Of a hole that is to be reserved a part cannot be: all of its block is.
    const reserves = (byte: number) => keepAllocated && object.isHole(byte);
    const first = reserves(at) ? roundDown(at, BLOCK_BYTES) : roundUp(at, BLOCK_BYTES);
    const last = reserves(end - 1) ? roundUp(end, BLOCK_BYTES) : roundDown(end, BLOCK_BYTES);
    if (at < first) await this.#zeroPart(object, at, Math.min(first, end) - at);
    if (first < last) await this.#zeroBlocks(object, first, last - first, keepAllocated);
    if (last < end && last >= first) await this.#zeroPart(object, last, end - last);
  }

  async #zeroPart(object: OpenObject, at: number, length: number): Promise<void> {
    if (!object.isHole(at)) await this.#patch(object, at, new Uint8Array(length));
  }
}
