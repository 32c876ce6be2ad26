/** Runs further apart than this many are no reply, but an attempt to make us keep a list. */
const RUNS_MAX = 4096;

/** Which bytes of a range have come, in whatever order. Pure. */
export class Coverage {
  /** Begin and end of each run, ascending, none touching another. */
  readonly #runs: { from: number; to: number }[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** Adds `from` to `to - 1`; false if some of it was there, or if it would lie in too many runs. */
  add(from: number, to: number): boolean {
    const runs = this.#runs;
    // Almost always the run goes on where the last one ended.
    let after = runs.length;
    while (after > 0 && (runs[after - 1]?.from ?? 0) >= from) after -= 1;
    const [before, next] = [runs[after - 1], runs[after]];
    if ((before !== undefined && before.to > from) || (next !== undefined && next.from < to)) {
      return false;
    }
    const joinsBefore = before?.to === from;
    const joinsNext = next?.from === to;
    if (!joinsBefore && !joinsNext && runs.length === RUNS_MAX) return false;
    this.#bytes += to - from;
    if (joinsBefore && joinsNext) {
      before.to = next.to;
      runs.splice(after, 1);
    } else if (joinsBefore) {
      before.to = to;
    } else if (joinsNext) {
      next.from = from;
    } else {
      runs.splice(after, 0, { from, to });
    }
    return true;
  }
}
