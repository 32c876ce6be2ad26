import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import { allSettled } from '../base/parallel.ts';
import type { Described, Extent } from '../contracts/block-device.ts';
import { BASE_ALLOCATION, CMD_FLAG, STATE_FLAG } from './constants.ts';
import type { Head, Request } from './head.ts';
import type { InFlight } from './in-flight.ts';
import type { MetaContext } from './meta-contexts.ts';

type Told = Described[] | Promise<Described[]>;

/** BLOCK_STATUS: what the device says of a range, one chunk for each selected context. */
export class Statuses {
  readonly #flight: InFlight;
  #waiting = 0;

  constructor(flight: InFlight) {
    this.#flight = flight;
  }

  /** True: no further request now. */
  get busy(): boolean {
    return this.#waiting >= this.#flight.limits.statusesMax;
  }

  /** @param contexts  at least one */
  begin(head: Head, contexts: readonly MetaContext[]): void {
    const { extentsMax } = this.#flight.limits;
    const { offset: at, length } = head;
    const one = (head.flags & CMD_FLAG.REQ_ONE) !== 0;
    const countMax = one ? 1 : Math.floor(extentsMax / contexts.length);
    const request = this.#flight.begin(head);
    const told = contexts.map(({ name }) => this.#ask(name, at, length, countMax));
    const answer = (all: readonly Described[][]) => this.#answer(request, length, contexts, all);
    if (told.every((extents) => Array.isArray(extents))) answer(told);
    else void this.#await(request, told, answer);
  }

  /** Never throws: what the device throws at once is one failure with what it rejects with later. */
  #ask(context: string, at: number, length: number, countMax: number): Told {
    const { device, signal } = this.#flight;
    const call = { signal };
    try {
      if (context === BASE_ALLOCATION) {
        const extents = device.extents(at, length, countMax, call);
        return Array.isArray(extents) ? allocation(extents) : extents.then(allocation);
      }
      if (device.describe !== undefined) {
        return device.describe(context, at, length, countMax, call);
      }
      throw new SheepError('ERR_UNSUPPORTED', `the device does not describe ${context}`);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The device is in use until all are settled, also when one has failed. */
  async #await(
    request: Request,
    told: readonly Told[],
    answer: (told: readonly Described[][]) => void,
  ): Promise<void> {
    const { outbound } = this.#flight;
    this.#waiting += 1;
    outbound.claim();
    try {
      const waiting = told.map(async (extents) => await extents);
      await allSettled(waiting).finally(() => {
        this.#waiting -= 1;
        outbound.unclaim();
      });
      answer(await Promise.all(waiting));
    } catch (error) {
      this.#flight.fail(request, error);
    }
  }

  #answer(
    request: Request,
    length: number,
    contexts: readonly MetaContext[],
    told: readonly Described[][],
  ): void {
    try {
      for (const extents of told) check(extents, length);
    } catch (error) {
      this.#flight.fail(request, error);
      return;
    }
    for (const [index, { id }] of contexts.entries()) {
      const last = index === contexts.length - 1;
      this.#flight.replies.blockStatus(request, id, told[index] ?? [], last);
    }
    this.#flight.end(request);
  }
}

/** "base:allocation" in its bits. */
function allocation(extents: readonly Extent[]): Described[] {
  return extents.map(({ length, hole, zero }) => ({
    length,
    flags: (hole ? STATE_FLAG.HOLE : 0) | (zero ? STATE_FLAG.ZERO : 0),
  }));
}

function check(extents: readonly Described[], asked: number): void {
  assert(extents.length > 0, 'a device answers with at least one extent');
  let left = asked;
  for (const extent of extents) {
    left -= extent.length;
    assert(extent.length > 0 && left >= 0, 'extents lie inside what was asked');
  }
}
