import { BLOCK_BYTES } from '../../src/base/units.ts';

/** One state that a block was given, as `blockValue` says it. */
interface Version {
  readonly value: number;
  /** Moments (lengths of the disk's log) at which it was asked for and answered. */
  readonly issuedAt: number;
  answeredAt: number;
  /** The same, counted in events of the client: tells what overlapped from what followed. */
  readonly issued: number;
  answered: number;
  /** When a flush or FUA that covers it was answered. */
  flushedAt: number;
}

/**
 * What each block of a disk may hold after a stop at any moment: section 6 of the design, row
 * `none`, for one copy. A state may be there unless another one that must be held was asked for
 * after it had been answered: requests in flight together take effect in either order.
 */
export class BlockModel {
  readonly #blocks: Version[][];
  #events = 0;

  /** @param initial  what each block holds when it begins; zeroes if not given */
  constructor(blocks: number, initial: readonly number[] = []) {
    this.#blocks = Array.from({ length: blocks }, (_, block) => [
      {
        value: initial[block] ?? 0,
        issuedAt: 0,
        answeredAt: 0,
        flushedAt: 0,
        issued: 0,
        answered: 0,
      },
    ]);
  }

  get blocks(): number {
    return this.#blocks.length;
  }

  /** A write of blocks `first` to `end - 1` begins; returns what to call with its answer. */
  begin(first: number, end: number, value: number, now: number): (now: number) => void {
    const versions: Version[] = [];
    this.#events += 1;
    const open = { answeredAt: Infinity, flushedAt: Infinity, answered: Infinity };
    for (let block = first; block < end; block += 1) {
      const version = { ...open, value, issuedAt: now, issued: this.#events };
      this.#blocks[block]?.push(version);
      versions.push(version);
    }
    return (answered) => {
      this.#events += 1;
      for (const version of versions) {
        version.answeredAt = answered;
        version.answered = this.#events;
      }
    };
  }

  /** A flush begins: it covers what was answered by now. Returns what to call with its answer. */
  flush(first = 0, end = this.#blocks.length): (now: number) => void {
    const covered = this.#blocks
      .slice(first, end)
      .flatMap((versions) => versions.filter(({ answeredAt }) => answeredAt < Infinity));
    return (answered) => {
      for (const version of covered) version.flushedAt = Math.min(version.flushedAt, answered);
    };
  }

  /**
   * The values that `block` may hold if everything stopped at this moment.
   * @param initial  what it may have held when all this began, if that is not certain
   */
  allowed(
    block: number,
    stoppedAt: number,
    stop: 'power-cut' | 'kill',
    initial?: ReadonlySet<number>,
  ): ReadonlySet<number> {
    const versions = this.#blocks[block] ?? [];
    const held = ({ answeredAt, flushedAt }: Version) =>
      (stop === 'kill' ? answeredAt : flushedAt) <= stoppedAt;
    const newestHeld = Math.max(...versions.filter(held).map(({ issued }) => issued));
    const possible = versions.filter(
      ({ issuedAt, answered }) => issuedAt <= stoppedAt && answered >= newestHeld,
    );
    return new Set(
      possible.flatMap(({ value, issued }) => (issued === 0 && initial ? [...initial] : [value])),
    );
  }
}

/** The bytes of a block with this value: every word says it, so that a mix shows. */
export function fillBlocks(into: Uint8Array, value: number): Uint8Array {
  new Uint32Array(into.buffer, into.byteOffset, into.length / 4).fill(value);
  return into;
}

const HALF_WORDS = BLOCK_BYTES / 8;

/** The value of a block whose halves hold these two: one number for both, if they differ. */
export function halvesValue(lower: number, upper: number): number {
  return lower === upper ? lower : (upper + 1) * 2 ** 32 + lower;
}

/** What stands in its halves; words, below 2^20. */
export function valueHalves(value: number): [lower: number, upper: number] {
  const upper = Math.floor(value / 2 ** 32);
  return upper === 0 ? [value, value] : [value % 2 ** 32, upper - 1];
}

/**
 * The value that a block, or each half of it, holds: 0 is zeroes, every other one words that say
 * it. Undefined if it is torn.
 */
export function blockValue(block: Uint8Array): number | undefined {
  const words = new Uint32Array(block.buffer, block.byteOffset, BLOCK_BYTES / 4);
  const [lower, upper] = [words[0] as number, words[HALF_WORDS] as number];
  const whole = words.every((word, at) => word === (at < HALF_WORDS ? lower : upper));
  return whole ? halvesValue(lower, upper) : undefined;
}
