import { SheepError } from '../../base/errors.ts';
import { Gate } from '../../base/gate.ts';
import { roundDown, roundUp } from '../../base/units.ts';
import type {
  BlockDevice,
  Described,
  DeviceInfo,
  Extent,
  FlushCall,
  ZeroCall,
} from '../../contracts/block-device.ts';
import type { Call, Completion, WriteCall } from '../../contracts/call.ts';
import { wholeBlocks } from './pieces.ts';

type Describing = BlockDevice & { readonly describe: NonNullable<BlockDevice['describe']> };

/**
 * Serves any range with a device that serves only multiples of a block: the block at either end is
 * read, changed and written back. While that happens no other change is under way, or one of them
 * would be undone.
 */
export class Aligned implements BlockDevice {
  readonly info: DeviceInfo;
  readonly #inner: Describing;
  readonly #unit: number;
  readonly #gate = new Gate();

  constructor(inner: Describing, unit: number) {
    this.#inner = inner;
    this.#unit = unit;
    this.info = inner.info;
  }

  async read(at: number, into: Uint8Array, call?: Call): Promise<void> {
    const { from, to } = this.#around(at, into.length);
    if (to - from === into.length) {
      await this.#inner.read(at, into, call);
      return;
    }
    // Only the blocks at the ends are read elsewhere; what is between goes to its place.
    const parts = this.#parts(at, into.length);
    await Promise.all(
      parts.map(async (part) => {
        const place = into.subarray(part.at - at, part.at - at + part.length);
        if (part.whole) {
          await this.#inner.read(part.at, place, call);
          return;
        }
        const block = await this.#block(part.at, call);
        place.set(block.subarray(part.at % this.#unit, (part.at % this.#unit) + part.length));
      }),
    );
  }

  async write(at: number, from: Uint8Array, call: WriteCall): Promise<void> {
    await this.#change(at, from.length, call, {
      whole: (whole, length) =>
        this.#inner.write(whole, from.subarray(whole - at, whole - at + length), call),
      patch: (block, place, start, length) =>
        block.set(from.subarray(start - at, start - at + length), place),
    });
  }

  async writeZeroes(at: number, length: number, call: ZeroCall): Promise<void> {
    const { from, to } = this.#around(at, length);
    if (call.fastOnly && to - from !== length) {
      throw new SheepError('ERR_NOT_FAST', 'parts of blocks have to be read first');
    }
    await this.#change(at, length, call, {
      whole: (whole, wholeLength) => this.#inner.writeZeroes(whole, wholeLength, call),
      patch: (block, place, _, partLength) => block.fill(0, place, place + partLength),
    });
  }

  /** Blocks of 4 KiB inside of a larger one are zeroed as its parts. */
  async trim(at: number, length: number, call: WriteCall): Promise<void> {
    const whole = wholeBlocks({ at, length }, this.info.sizeBytes);
    if (whole.length === 0) return;
    const zero = { ...call, keepAllocated: false, fastOnly: false };
    await this.writeZeroes(whole.at, whole.length, zero);
  }

  async extents(at: number, length: number, countMax: number, call?: Call): Promise<Extent[]> {
    const { from, to } = this.#around(at, length);
    return clipped(await this.#inner.extents(from, to - from, countMax, call), at - from, length);
  }

  async describe(
    context: string,
    at: number,
    length: number,
    countMax: number,
    call?: Call,
  ): Promise<Described[]> {
    const { from, to } = this.#around(at, length);
    const found = await this.#inner.describe(context, from, to - from, countMax, call);
    return clipped(found, at - from, length);
  }

  flush(call?: FlushCall): Completion {
    return this.#inner.flush(call);
  }
  prefetch(at: number, length: number, call?: Call): Completion {
    const { from, to } = this.#around(at, length);
    return this.#inner.prefetch(from, to - from, call);
  }
  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#inner[Symbol.asyncDispose]();
  }

  /** A change of whole blocks runs beside others; one that has to read first runs alone. */
  async #change(
    at: number,
    length: number,
    call: WriteCall,
    by: {
      whole(at: number, length: number): Completion;
      patch(block: Uint8Array, place: number, at: number, length: number): void;
    },
  ): Promise<void> {
    const parts = this.#parts(at, length);
    const alone = parts.some((part) => !part.whole);
    await this.#gate.pass(alone, async () => {
      for (const part of parts) {
        if (part.whole) {
          await by.whole(part.at, part.length);
          continue;
        }
        const block = await this.#block(part.at, call);
        by.patch(block, part.at % this.#unit, part.at, part.length);
        // Not to be aborted: what is on its way holds bytes of others, and must land before they
        // change again.
        await this.#inner.write(roundDown(part.at, this.#unit), block, { durable: call.durable });
      }
    });
  }

  /** The block in which `at` lies. */
  async #block(at: number, call?: Call): Promise<Uint8Array> {
    const block = new Uint8Array(this.#unit);
    await this.#inner.read(roundDown(at, this.#unit), block, call);
    return block;
  }

  #around(at: number, length: number): { from: number; to: number } {
    return { from: roundDown(at, this.#unit), to: roundUp(at + length, this.#unit) };
  }

  /** The part of a block at the begin, whole blocks, the part of a block at the end. */
  #parts(at: number, length: number): { at: number; length: number; whole: boolean }[] {
    const unit = this.#unit;
    const end = at + length;
    const from = Math.min(roundUp(at, unit), end);
    const to = Math.max(roundDown(end, unit), from);
    return [
      { at, length: from - at, whole: false },
      { at: from, length: to - from, whole: true },
      { at: to, length: end - to, whole: false },
    ].filter((part) => part.length > 0);
  }
}

/** What of a list that begins `skip` before it lies inside of `length`. */
function clipped<T extends { readonly length: number }>(
  list: readonly T[],
  skip: number,
  length: number,
): T[] {
  const found: T[] = [];
  let at = -skip;
  for (const one of list) {
    const [from, to] = [Math.max(0, at), Math.min(length, at + one.length)];
    at += one.length;
    if (from < to) found.push({ ...one, length: to - from });
  }
  if (found.length === 0) {
    throw new SheepError('ERR_BAD_FRAME', 'the server tells extents smaller than its blocks');
  }
  return found;
}
