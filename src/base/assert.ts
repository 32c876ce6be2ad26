/** What the program believes of itself; a false one is a bug of ours, never of the world. */
export function assert(truth: boolean, belief: string): asserts truth {
  if (!truth) throw new AssertionFailure(belief);
}

/** For the `default` of a switch that lists every case: the compiler proves it is never reached. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`no such case: ${String(value)}`);
}

/** A broken belief: the process must not go on serving data after one. */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}
