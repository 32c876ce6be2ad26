import { assert } from '../../base/assert.ts';
import type { Extent } from '../../contracts/block-device.ts';
import type { Completion, ReadCall } from '../../contracts/call.ts';
import type { CaptureSource } from './slice-runs.ts';

/** An object that is to be stored; it does not change meanwhile. */
export interface SourceObject {
  readonly index: number;
  readonly bytes: number;
  /** Fills `into` from byte `at` of the object. */
  read(at: number, into: Uint8Array, call?: ReadCall): Completion;
}

/** Some objects of one VDI as a disk: each stands where its index says, and between them is nothing. */
export class ObjectSource implements CaptureSource {
  readonly info: { readonly sizeBytes: number };
  readonly #objects: readonly SourceObject[];
  readonly #strideBytes: number;

  /**
   * @param objects      by ascending index, at least one
   * @param strideBytes  how far apart they stand; none is larger
   */
  constructor(objects: readonly SourceObject[], strideBytes: number) {
    const last = objects.at(-1);
    assert(last !== undefined, 'there is an object');
    const sizeBytes = (last.index + 1) * strideBytes;
    assert(Number.isSafeInteger(sizeBytes), 'places stay exact as numbers');
    this.info = { sizeBytes };
    this.#objects = objects;
    this.#strideBytes = strideBytes;
  }

  async read(at: number, into: Uint8Array, call?: ReadCall): Promise<void> {
    const stride = this.#strideBytes;
    into.fill(0);
    const end = at + into.length;
    for (let place = this.#placeFrom(at); ; place += 1) {
      const object = this.#objects[place];
      if (object === undefined || object.index * stride >= end) return;
      const start = object.index * stride;
      const from = Math.max(at, start);
      const to = Math.min(end, start + object.bytes);
      if (from < to) await object.read(from - start, into.subarray(from - at, to - at), call);
    }
  }

  extents(at: number, length: number, countMax: number): Extent[] {
    const extents: Extent[] = [];
    const end = at + length;
    let position = at;
    const add = (to: number, hole: boolean) => {
      const until = Math.min(to, end);
      if (until <= position) return;
      const last = extents.at(-1);
      if (last?.hole === hole) {
        extents.splice(-1, 1, { ...last, length: last.length + until - position });
      } else if (extents.length === countMax) return;
      else extents.push({ length: until - position, hole, zero: hole });
      position = until;
    };
    for (let place = this.#placeFrom(at); position < end && extents.length < countMax; place += 1) {
      const object = this.#objects[place];
      const start = object === undefined ? end : object.index * this.#strideBytes;
      add(start, true);
      if (object !== undefined) add(start + object.bytes, false);
    }
    return extents;
  }

  /** The first object that ends behind this byte. */
  #placeFrom(at: number): number {
    const index = Math.floor(at / this.#strideBytes);
    let [low, high] = [0, this.#objects.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#objects[middle] as SourceObject).index < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
