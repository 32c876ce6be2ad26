/** Runs `work` for each item, at most `limit` at once; rejects with the first failure, after all. */
export async function forEachAtMost<T>(
  limit: number,
  items: Iterable<T>,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  const worker = async () => {
    for (let next = queue.next(); next.done !== true; next = queue.next()) await work(next.value);
  };
  await allSettled(Array.from({ length: limit }, worker));
}

/** Waits for all of them, also when one fails; then rejects with the first failure. */
export async function allSettled(promises: Iterable<Promise<unknown>>): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
