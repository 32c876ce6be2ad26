import type { Extent } from '../contracts/block-device.ts';
import type { ObjectExtent } from '../contracts/object-store.ts';

/** Joins runs of like content into extents, up to a number of them. */
export class ExtentRuns {
  readonly #countMax: number;
  readonly #runs: { length: number; content: ObjectExtent['content'] }[] = [];

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  get some(): boolean {
    return this.#runs.length > 0;
  }
  /** One more than asked for has begun: the last one asked for is complete. */
  get full(): boolean {
    return this.#runs.length > this.#countMax;
  }

  add(length: number, content: ObjectExtent['content']): void {
    const last = this.#runs.at(-1);
    if (last?.content === content) last.length += length;
    else if (!this.full) this.#runs.push({ length, content });
  }

  done(): Extent[] {
    return this.#runs.slice(0, this.#countMax).map(({ length, content }) => ({
      length,
      hole: content === 'hole',
      zero: content !== 'data',
    }));
  }
}
