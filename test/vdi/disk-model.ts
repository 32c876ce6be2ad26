import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Random } from '../../src/contracts/seams.ts';

/** A disk as a plain array, beside a device that is asked for the same things. */
export class DiskModel {
  readonly #random: Random;
  readonly #bytes: Uint8Array;
  /** What the device did and the array does not allow, as sentences. */
  readonly mismatches: string[] = [];
  #value = 0;

  constructor(random: Random, sizeBytes: number) {
    this.#random = random;
    this.#bytes = new Uint8Array(sizeBytes);
  }

  /**
   * So many requests at the same time, of odd offsets and lengths, across the borders of objects.
   * None overlaps another, so that each has one right outcome; settles when all have.
   */
  async apart(device: BlockDevice, count: number): Promise<void> {
    const size = this.#bytes.length;
    const cuts = Array.from({ length: count - 1 }, () => this.#place(size));
    const borders = [0, ...new Set(cuts), size].toSorted((a, b) => a - b);
    const requests: Promise<void>[] = [];
    for (let place = 1; place < borders.length; place += 1) {
      const [from, to] = [borders[place - 1] as number, borders[place] as number];
      if (to - from > 0) requests.push(this.#request(device, from, to));
    }
    await Promise.all(requests);
  }

  async compare(device: BlockDevice): Promise<void> {
    await this.#read(device, 0, this.#bytes.length);
  }

  #request(device: BlockDevice, from: number, to: number): Promise<void> {
    const at = from + this.#random.below(to - from);
    const length = 1 + this.#random.below(to - at);
    switch (this.#random.below(7)) {
      case 0:
        return this.#trim(device, at, length);
      case 1:
      case 2:
        return this.#zero(device, at, length);
      case 3:
      case 4:
        return this.#read(device, at, length);
      default:
        return this.#write(device, at, length);
    }
  }

  async #write(device: BlockDevice, at: number, length: number): Promise<void> {
    this.#value = (this.#value % 255) + 1;
    this.#bytes.fill(this.#value, at, at + length);
    const durable = this.#random.below(8) === 0;
    await device.write(at, new Uint8Array(length).fill(this.#value), { durable });
  }

  async #zero(device: BlockDevice, at: number, length: number): Promise<void> {
    this.#bytes.fill(0, at, at + length);
    const keepAllocated = this.#random.below(2) === 0;
    await device.writeZeroes(at, length, { durable: false, keepAllocated, fastOnly: false });
  }

  async #trim(device: BlockDevice, at: number, length: number): Promise<void> {
    const from = Math.ceil(at / BLOCK_BYTES) * BLOCK_BYTES;
    const to = Math.floor((at + length) / BLOCK_BYTES) * BLOCK_BYTES;
    if (from < to) this.#bytes.fill(0, from, to);
    await device.trim(at, length, { durable: false });
  }

  async #read(device: BlockDevice, at: number, length: number): Promise<void> {
    const expected = this.#bytes.slice(at, at + length);
    const into = new Uint8Array(length).fill(0xee);
    await device.read(at, into);
    const place = expected.findIndex((byte, index) => byte !== into[index]);
    if (place >= 0) {
      const [is, must] = [into[place], expected[place]];
      this.mismatches.push(`byte ${at + place} reads ${is}, must be ${must}`);
    }
    await this.#extents(device, at, length, expected);
  }

  async #extents(device: BlockDevice, at: number, length: number, expected: Uint8Array) {
    let place = 0;
    for (const extent of await device.extents(at, length, 1000)) {
      const bytes = expected.subarray(place, place + extent.length);
      if (extent.zero && bytes.some((byte) => byte !== 0)) {
        this.mismatches.push(`data at ${at + place} is called zero`);
      }
      place += extent.length;
    }
    if (place !== length) this.mismatches.push(`extents cover ${place} of ${length} bytes`);
  }

  /** Often at the border of a block, so that whole ones are met as well. */
  #place(size: number): number {
    const place = this.#random.below(size);
    return this.#random.below(2) === 0 ? place : Math.floor(place / BLOCK_BYTES) * BLOCK_BYTES;
  }
}
