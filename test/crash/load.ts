import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { Random } from '../../src/contracts/seams.ts';
import {
  type BlockModel,
  blockValue,
  fillBlocks,
  halvesValue,
  valueHalves,
} from './block-model.ts';
import { DISK_BLOCKS, type OpenDisk } from './disk-world.ts';

export interface LoadOptions {
  readonly random: Random;
  readonly steps: number;
  /** Is told of everything. */
  readonly model: BlockModel;
  /** Names the moment. */
  readonly now: () => number;
  /** Each write has a value of its own, counted from here. */
  readonly firstValue: number;
}

/** Random requests, some at the same time, and what else happens to a disk while it is used. */
export async function runLoad(open: OpenDisk, options: LoadOptions): Promise<void> {
  const load = new Load(open, options);
  for (let done = 0; done < options.steps; ) done += await load.some();
}

const HALF_BYTES = BLOCK_BYTES / 2;

class Load {
  readonly #open: OpenDisk;
  readonly #options: LoadOptions;
  #value: number;

  constructor(open: OpenDisk, options: LoadOptions) {
    this.#open = open;
    this.#options = options;
    this.#value = options.firstValue;
  }

  /** @returns how many steps were taken */
  async some(): Promise<number> {
    const { random } = this.#options;
    if (random.below(8) === 0) {
      await this.#half();
      return 1;
    }
    const together = 1 + random.below(4);
    await Promise.all(Array.from({ length: together }, () => this.#step()));
    return together;
  }

  #step(): Promise<void> {
    const { random, now } = this.#options;
    const { farm, family } = this.#open;
    const dice = random.below(20);
    if (dice < 11) return this.#write();
    if (dice < 13) return this.#zero(dice === 12);
    if (dice < 17) return this.#flush();
    if (dice < 18 || family === undefined) return farm.maintain();
    return random.below(2) === 0 ? family.snapshot(now) : family.deleteOne(random, now);
  }

  #range(blocksMax: number): { first: number; length: number } {
    const { random } = this.#options;
    const length = 1 + random.below(Math.min(blocksMax, DISK_BLOCKS));
    return { first: random.below(DISK_BLOCKS - length + 1), length };
  }

  /** Now and then one of the blocks, or all, are zeroes like any other bytes. */
  async #write(): Promise<void> {
    const { random, model, now } = this.#options;
    const { first, length } = this.#range(random.below(4) === 0 ? 30 : 2);
    this.#value += 1;
    const value = random.below(8) === 0 ? 0 : this.#value;
    const bytes = fillBlocks(new Uint8Array(length * BLOCK_BYTES), value);
    const blank = random.below(3) === 0 ? first + random.below(length) : first + length;
    bytes
      .subarray((blank - first) * BLOCK_BYTES)
      .subarray(0, BLOCK_BYTES)
      .fill(0);
    const answers = [
      model.begin(first, Math.min(blank, first + length), value, now()),
      model.begin(blank, Math.min(blank + 1, first + length), 0, now()),
      model.begin(blank + 1, first + length, value, now()),
    ];
    const durable = random.below(6) === 0;
    await this.#open.volume.write(first * BLOCK_BYTES, bytes, { durable });
    for (const answer of answers) answer(now());
    if (durable) model.flush(first, first + length)(now());
  }

  async #zero(trim: boolean): Promise<void> {
    const { random, model, now } = this.#options;
    const { volume } = this.#open;
    const { first, length } = this.#range(random.below(3) === 0 ? DISK_BLOCKS : 12);
    const answer = model.begin(first, first + length, 0, now());
    const at = first * BLOCK_BYTES;
    const bytes = length * BLOCK_BYTES;
    const keepAllocated = random.below(3) === 0;
    if (trim) await volume.trim(at, bytes, { durable: false });
    else await volume.writeZeroes(at, bytes, { durable: false, keepAllocated, fastOnly: false });
    answer(now());
  }

  /** A part of a block, with nothing else under way: what the rest of it holds is certain. */
  async #half(): Promise<void> {
    const { random, model, now } = this.#options;
    const { volume } = this.#open;
    const block = random.below(DISK_BLOCKS);
    const bytes = new Uint8Array(BLOCK_BYTES);
    await volume.read(block * BLOCK_BYTES, bytes);
    const half = random.below(2);
    this.#value += 1;
    const value = random.below(2) === 0 ? 0 : this.#value;
    const halves = valueHalves(blockValue(bytes) ?? 0);
    halves[half] = value;
    const at = block * BLOCK_BYTES + half * HALF_BYTES;
    const answer = model.begin(block, block + 1, halvesValue(...halves), now());
    if (value === 0 && random.below(2) === 0) {
      const keepAllocated = random.below(2) === 0;
      const call = { durable: false, keepAllocated, fastOnly: false };
      await volume.writeZeroes(at, HALF_BYTES, call);
    } else {
      const from = fillBlocks(new Uint8Array(HALF_BYTES), value);
      await volume.write(at, from, { durable: false });
    }
    answer(now());
  }

  async #flush(): Promise<void> {
    const { model, now } = this.#options;
    const answer = model.flush();
    await this.#open.volume.flush();
    answer(now());
  }
}
