import { OBJECT_BYTES_MAX } from './limits.ts';
import { blocksOf } from './object-format.ts';

/** As many as an object of the largest size can have. */
const gathered = new Uint32Array(2 * blocksOf(OBJECT_BYTES_MAX));

/**
 * One 32-bit value for each block of an object, as runs of equal ones: what an object that holds
 * little, or inherits from few, says of its blocks takes a hundred bytes and not a page.
 */
export class ValueRuns {
  /** First block and value of each, in order. */
  readonly #runs: Uint32Array<ArrayBuffer>;

  private constructor(runs: Uint32Array<ArrayBuffer>) {
    this.#runs = runs;
  }

  /** @param values  at least one; borrowed */
  static from(values: Uint32Array): ValueRuns {
    return new ValueRuns(gathered.slice(0, gather(values, values.length)));
  }

  /** The same, unless there are more than so many. */
  static ifFew(values: Uint32Array, countMax: number): ValueRuns | undefined {
    const length = gather(values, countMax);
    return length > 2 * countMax ? undefined : new ValueRuns(gathered.slice(0, length));
  }

  get byteLength(): number {
    return this.#runs.byteLength;
  }

  of(block: number): number {
    const runs = this.#runs;
    let low = 0;
    let high = runs.length / 2 - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((runs[2 * middle] as number) <= block) low = middle;
      else high = middle - 1;
    }
    return runs[2 * low + 1] as number;
  }

  /** True if all blocks have this one. */
  isAll(value: number): boolean {
    return this.#runs.length === 2 && this.#runs[1] === value;
  }

  /** Writes them out, one for each block. */
  fill<T extends Uint32Array>(values: T): T {
    for (let run = 0; run < this.#runs.length; run += 2) {
      values.fill(this.#runs[run + 1] as number, this.#runs[run], this.#runs[run + 2]);
    }
    return values;
  }
}

/** Fills `gathered`; returns how long it became, and stops where it would be of more than `countMax`. */
function gather(values: Uint32Array, countMax: number): number {
  let length = 0;
  let before = -1;
  for (let block = 0; block < values.length; block += 1) {
    const value = values[block] as number;
    if (value === before) continue;
    if (length === 2 * countMax) return length + 2;
    gathered[length] = block;
    gathered[length + 1] = value;
    length += 2;
    before = value;
  }
  return length;
}
