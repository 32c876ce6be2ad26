import type { Call } from '../../contracts/call.ts';
import { TRANSFER_LIMITS } from './limits.ts';

/**
 * `load` of every item, in order, with many under way ahead of what is taken. What is under way is
 * waited for in the end, however it ends: it has memory of whoever started it.
 */
export async function* loadAhead<Item, Loaded>(
  items: AsyncIterable<Item>,
  load: (item: Item) => Promise<Loaded>,
  { signal }: Call = {},
): AsyncGenerator<Loaded> {
  const ahead: Promise<Loaded>[] = [];
  try {
    for await (const item of items) {
      signal?.throwIfAborted();
      const loading = load(item);
      loading.catch(() => undefined); // told when its turn comes
      ahead.push(loading);
      if (ahead.length < TRANSFER_LIMITS.readAhead) continue;
      yield await (ahead.shift() as Promise<Loaded>);
    }
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) yield await next;
  } finally {
    await Promise.allSettled(ahead);
  }
}
