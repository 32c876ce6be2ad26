import type { Head, Request } from './head.ts';
import type { InFlight } from './in-flight.ts';

/**
 * CACHE: what a client will read soon. It is a hint, so one at a time is followed, and only the
 * beginning of it, step by step with a turn for the others in between; one that comes meanwhile is
 * answered and no more. Each would have memory of its own otherwise, and all the disk's time.
 */
export class Prefetches {
  readonly #flight: InFlight;
  #busy = false;

  constructor(flight: InFlight) {
    this.#flight = flight;
  }

  begin(head: Head): void {
    if (this.#busy || head.length === 0) this.#flight.replies.done(head);
    else void this.#follow(this.#flight.begin(head));
  }

  async #follow(request: Request): Promise<void> {
    const { device, limits, signal, stopwatch } = this.#flight;
    const { prefetchStepBytes: step, prefetchMaxBytes } = limits;
    const end = request.offset + Math.min(request.length, prefetchMaxBytes);
    this.#busy = true;
    try {
      for (let at = request.offset; at < end && !signal.aborted; at += step) {
        if (at > request.offset) await stopwatch.clock.yield();
        await device.prefetch(at, Math.min(step, end - at), { signal });
      }
      this.#flight.succeed(request);
    } catch (error) {
      this.#flight.fail(request, error);
    } finally {
      this.#busy = false;
    }
  }
}
