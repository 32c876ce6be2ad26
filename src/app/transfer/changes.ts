import { SheepError } from '../../base/errors.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import { BITMAP_CONTEXT } from '../../vdi/device-info.ts';
import { TRANSFER_LIMITS } from './limits.ts';

export interface Range {
  readonly at: number;
  readonly length: number;
}

export const changesContext = (tag: string) => BITMAP_CONTEXT + tag;

/** What one metadata context says of a whole disk, run by run; neighbours differ. */
export async function* described(
  device: BlockDevice,
  context: string,
  call: Call = {},
): AsyncGenerator<Range & { readonly flags: number }> {
  const { describe } = device;
  if (describe === undefined || !device.info.contexts?.includes(context)) {
    throw new SheepError('ERR_UNSUPPORTED', `${device.info.description} has no ${context}`);
  }
  const { sizeBytes } = device.info;
  let last = { at: 0, length: 0, flags: 0 };
  for (let at = 0; at < sizeBytes; ) {
    const asked = Math.min(sizeBytes - at, TRANSFER_LIMITS.extentBytes);
    const runs = await describe.call(device, context, at, asked, TRANSFER_LIMITS.extentsMax, call);
    for (const { length, flags } of runs) {
      if (flags === last.flags) {
        last.length += length;
      } else {
        if (last.length > 0) yield last;
        last = { at, length, flags };
      }
      at += length;
    }
  }
  if (last.length > 0) yield last;
}

/** The parts of a disk that may differ from one of its snapshots, in order. */
export async function* changedSince(
  device: BlockDevice,
  tag: string,
  call: Call = {},
): AsyncGenerator<Range> {
  for await (const { at, length, flags } of described(device, changesContext(tag), call)) {
    if ((flags & 1) !== 0) yield { at, length };
  }
}

/** Runs that are asked for in order, from a byte to the end of the run it lies in. */
export class RunCursor<Run extends { readonly length: number }> {
  readonly #ask: (at: number) => Promise<readonly Run[]>;
  #runs: { readonly run: Run; readonly end: number }[] = [];

  /** @param ask  what stands from a byte on: at least one run */
  constructor(ask: (at: number) => Promise<readonly Run[]>) {
    this.#ask = ask;
  }

  /** `at` never runs back. */
  async find(at: number): Promise<{ readonly run: Run; readonly end: number }> {
    while ((this.#runs[0]?.end ?? at + 1) <= at) this.#runs.shift();
    if (this.#runs[0] === undefined) {
      let end = at;
      this.#runs = (await this.#ask(at)).map((run) => {
        end += run.length;
        return { run, end };
      });
    }
    return this.#runs[0] as { run: Run; end: number };
  }
}
