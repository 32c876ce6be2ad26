import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice, Described, Extent } from '../../src/contracts/block-device.ts';

const B = BLOCK_BYTES;
const ZEROES = new Uint8Array(B);

/** What a transfer asked of a device. */
export interface Asked {
  readonly name: 'read' | 'write' | 'writeZeroes' | 'flush';
  readonly at: number;
  readonly length: number;
}

/**
 * A disk in memory that knows its holes and its snapshots. Every operation waits a turn, and a hook
 * may make it wait for longer or fail.
 */
export class MemoryDevice implements BlockDevice {
  readonly info: BlockDevice['info'];
  readonly bytes: Uint8Array;
  /** Of each block: something was written to it since it was last zeroed. */
  readonly written: boolean[];
  readonly asked: Asked[] = [];
  before: (asked: Asked) => Promise<void> | void = () => undefined;
  /** How many operations are under way, and how many ever were at once. */
  #underWay = 0;
  atOnceMax = 0;
  readonly #snapshots = new Map<string, Uint8Array>();
  readonly #contexts: string[] = [];

  constructor(sizeBytes: number, bytes = new Uint8Array(sizeBytes)) {
    this.info = { sizeBytes, readOnly: false, description: 'memory', contexts: this.#contexts };
    this.bytes = bytes;
    this.written = Array.from({ length: sizeBytes / B }, (_, block) => !this.#isZero(block));
  }

  /** Fills blocks `from` to `to - 1` with `value`, as a guest would. */
  fill(from: number, to: number, value: number): this {
    this.bytes.fill(value, from * B, to * B);
    this.written.fill(true, from, to);
    return this;
  }
  punch(from: number, to: number): this {
    this.bytes.fill(0, from * B, to * B);
    this.written.fill(false, from, to);
    return this;
  }

  /** Keeps the state of now under a tag; the device that has it. */
  snapshot(tag: string): MemoryDevice {
    const kept = new MemoryDevice(this.info.sizeBytes, this.bytes.slice());
    kept.written.splice(0, this.written.length, ...this.written);
    this.#snapshots.set(tag, kept.bytes);
    this.#contexts.push(`qemu:dirty-bitmap:${tag}`);
    return kept;
  }

  read(at: number, into: Uint8Array) {
    return this.#run({ name: 'read', at, length: into.length }, () => {
      into.set(this.bytes.subarray(at, at + into.length));
    });
  }
  write(at: number, from: Uint8Array) {
    return this.#run({ name: 'write', at, length: from.length }, () => {
      this.bytes.set(from, at);
      this.written.fill(true, Math.floor(at / B), Math.ceil((at + from.length) / B));
    });
  }
  writeZeroes(at: number, length: number) {
    return this.#run({ name: 'writeZeroes', at, length }, () => {
      this.bytes.fill(0, at, at + length);
      this.written.fill(false, Math.ceil(at / B), Math.floor((at + length) / B));
    });
  }
  flush() {
    return this.#run({ name: 'flush', at: 0, length: 0 }, () => undefined);
  }
  async trim(): Promise<void> {
    throw new SheepError('ERR_UNSUPPORTED', 'a transfer zeroes, it does not trim');
  }
  async prefetch(): Promise<void> {}

  async extents(at: number, length: number, countMax: number): Promise<Extent[]> {
    return runsOf(at, length, countMax, (block) => (this.written[block] ? 0 : 1)).map(
      ({ length: run, flags }) => ({ length: run, hole: flags === 1, zero: flags === 1 }),
    );
  }
  async describe(context: string, at: number, length: number, countMax: number) {
    const kept = this.#snapshots.get(context.replace('qemu:dirty-bitmap:', '')) as Uint8Array;
    const same = (block: number) =>
      Buffer.compare(
        kept.subarray(block * B, (block + 1) * B),
        this.bytes.subarray(block * B, (block + 1) * B),
      ) === 0;
    return runsOf(at, length, countMax, (block) => (same(block) ? 0 : 1));
  }
  async [Symbol.asyncDispose](): Promise<void> {}

  #isZero(block: number): boolean {
    return Buffer.compare(this.bytes.subarray(block * B, (block + 1) * B), ZEROES) === 0;
  }

  async #run(asked: Asked, work: () => void): Promise<void> {
    this.asked.push(asked);
    this.#underWay += 1;
    this.atOnceMax = Math.max(this.atOnceMax, this.#underWay);
    try {
      await this.before(asked);
      work();
    } finally {
      this.#underWay -= 1;
    }
  }
}

function runsOf(
  at: number,
  length: number,
  countMax: number,
  flagsOf: (block: number) => number,
): Described[] {
  const runs: { length: number; flags: number }[] = [];
  for (let from = at; from < at + length; ) {
    const block = Math.floor(from / B);
    const to = Math.min(at + length, (block + 1) * B);
    const flags = flagsOf(block);
    const last = runs.at(-1);
    if (last?.flags === flags) last.length += to - from;
    else if (runs.length === countMax) break;
    else runs.push({ length: to - from, flags });
    from = to;
  }
  return runs;
}
