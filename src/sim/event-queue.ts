/** Something that happens at a simulated moment. */
export interface SimEvent {
  readonly atMs: number;
  /** Of two at one moment, the one planned first comes first. */
  readonly order: number;
  readonly name: string;
  readonly act: () => void;
  /** Called off: it does not happen. */
  off: boolean;
}

/** A binary heap: the earliest event is at the top. */
export class EventQueue {
  readonly #heap: SimEvent[] = [];

  add(event: SimEvent): void {
    const heap = this.#heap;
    let index = heap.length;
    while (index > 0) {
      const above = (index - 1) >> 1;
      if (isBefore(heap[above]!, event)) break;
      heap[index] = heap[above]!;
      index = above;
    }
    heap[index] = event;
  }

  /** The earliest, which leaves the queue. */
  take(): SimEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const moved = heap.pop();
    if (!first || !moved || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below += 1;
      if (isBefore(moved, heap[below]!)) break;
      heap[index] = heap[below]!;
      index = below;
    }
    heap[index] = moved;
    return first;
  }
}

function isBefore(one: SimEvent, other: SimEvent): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}
