/** Joins neighbours of like value into runs, up to a number of them. */
export class Runs<T> {
  readonly #countMax: number;
  readonly #runs: { length: number; value: T }[] = [];

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

  add(length: number, value: T): void {
    const last = this.#runs.at(-1);
    if (last?.value === value) last.length += length;
    else if (!this.full) this.#runs.push({ length, value });
  }

  /** As many as were asked for. */
  asked(): readonly { readonly length: number; readonly value: T }[] {
    return this.#runs.slice(0, this.#countMax);
  }
}
