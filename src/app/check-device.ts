import { describeError, type FaultCode, SheepError } from '../base/errors.ts';
import { BLOCK_BYTES, KiB, roundDown } from '../base/units.ts';
import type { BlockDevice, Extent } from '../contracts/block-device.ts';

/** What is wrong with a range of the disk. */
export interface Flaw {
  /** `damaged`: a checksum does not fit. `missing`: an object is not there. `unreadable`: the operating
   * system or the format refuses. */
  readonly kind: 'damaged' | 'missing' | 'unreadable';
  /** Bytes of the disk, whole blocks. */
  readonly at: number;
  readonly length: number;
  /** The oid of the object, where the failure names one. */
  readonly object?: string;
  /** The first failure in this range, in a sentence. */
  readonly message: string;
}

/** One step of a check: how far it is, and what it found since the last one. */
export interface CheckStep {
  /** Objects that hold anything and were looked at. */
  readonly objects: number;
  readonly readBytes: number;
  readonly flaws: readonly Flaw[];
}

/** Read at a time: little enough that nobody waits long behind it. */
const PIECE_BYTES = 256 * KiB;
/** Smaller holes are read along: a read for each piece of data between them would take longer. */
const HOLE_BYTES_MIN = 64 * KiB;
const EXTENTS_MAX = 256;

const KINDS: { readonly [code in FaultCode]?: Flaw['kind'] } = {
  ERR_CORRUPT: 'damaged',
  ERR_MISSING: 'missing',
  ERR_IO: 'unreadable',
  ERR_VERSION: 'unreadable',
};

/**
 * Reads all that a disk holds, so that every block of it is proven, and tells what fails: one flaw
 * for each run of blocks that fail alike in one object. Memory: one piece.
 * @param pace  called before each read; waits as long as others shall be served first
 * @throws whatever is no flaw of the disk: a stop of the daemon, an abort of `pace`
 */
export async function* checkDevice(
  device: BlockDevice,
  objectBytes: number,
  pace: () => Promise<void>,
): AsyncGenerator<CheckStep> {
  const { sizeBytes } = device.info;
  const piece = new Uint8Array(Math.min(PIECE_BYTES, sizeBytes));
  const runs = new FlawRuns();
  let objects = 0;
  let readBytes = 0;
  for (let at = 0; at < sizeBytes; ) {
    await pace();
    const end = Math.min(sizeBytes, at + objectBytes);
    const ranges = await dataRanges(device, at, end);
    objects += ranges.length > 0 ? 1 : 0;
    for (const { from, to } of ranges) {
      for (let position = from; position < to; ) {
        const into = piece.subarray(0, Math.min(piece.length, to - position));
        await pace();
        const failed = await readFlaw(device, position, into);
        const flaws = failed === undefined ? [] : await flawsIn(device, failed, to, into, pace);
        const seen = Math.max(into.length, flaws[0]?.length ?? 0);
        position += seen;
        readBytes += into.length;
        yield { objects, readBytes, flaws: flaws.flatMap((flaw) => runs.add(flaw)) };
      }
    }
    at = ranges.length > 0 ? end : await endOfHole(device, at, end, objectBytes);
  }
  yield { objects, readBytes, flaws: runs.end() };
}

interface Range {
  readonly from: number;
  readonly to: number;
}

/** What is to be read from `at` to `end`: all but the larger holes. */
async function dataRanges(device: BlockDevice, at: number, end: number): Promise<Range[]> {
  const ranges: Range[] = [];
  for (let position = at; position < end; ) {
    const extents = await extentsOf(device, position, end - position, EXTENTS_MAX);
    for (const { length, hole } of extents) {
      const [from, to] = [position, position + length];
      position = to;
      const last = ranges.at(-1);
      if (hole) continue;
      if (last !== undefined && from - last.to < HOLE_BYTES_MIN) {
        ranges[ranges.length - 1] = { from: last.from, to };
      } else {
        ranges.push({ from, to });
      }
    }
  }
  return ranges;
}

/** Where the hole that reaches from `at` to `end` at least comes to its end, in whole objects. */
async function endOfHole(
  device: BlockDevice,
  at: number,
  end: number,
  objectBytes: number,
): Promise<number> {
  const { sizeBytes } = device.info;
  const [run] = await extentsOf(device, at, sizeBytes - at, 1);
  if (run?.hole !== true) return end;
  const to = at + run.length;
  return to === sizeBytes ? to : Math.max(end, roundDown(to, objectBytes));
}

/** What cannot be told is taken for data: to read it says what is wrong, block by block. */
async function extentsOf(
  device: BlockDevice,
  at: number,
  length: number,
  countMax: number,
): Promise<Extent[]> {
  try {
    return await device.extents(at, length, countMax);
  } catch (error) {
    flawOf(error, at, length);
    return [{ length, hole: false, zero: false }];
  }
}

/**
 * Which blocks of a piece fail that failed as a whole; or all up to `to`, if it is the inode that
 * cannot be read: without it no block can, and there may be millions.
 */
async function flawsIn(
  device: BlockDevice,
  whole: Flaw,
  to: number,
  into: Uint8Array,
  pace: () => Promise<void>,
): Promise<Flaw[]> {
  const { at, object } = whole;
  if (object !== undefined && !isData(object)) return [{ ...whole, length: to - at }];
  const flaws: Flaw[] = [];
  for (let offset = 0; offset < into.length; offset += BLOCK_BYTES) {
    await pace();
    const flaw = await readFlaw(device, at + offset, into.subarray(offset, offset + BLOCK_BYTES));
    if (flaw !== undefined) flaws.push(flaw);
  }
  return flaws;
}

async function readFlaw(
  device: BlockDevice,
  at: number,
  into: Uint8Array,
): Promise<Flaw | undefined> {
  try {
    await device.read(at, into, { proveAnew: true });
    return undefined;
  } catch (error) {
    return flawOf(error, at, into.length);
  }
}

/** What it says of these bytes. @throws `error` if it says nothing of them */
function flawOf(error: unknown, at: number, length: number): Flaw {
  const kind = error instanceof SheepError ? KINDS[error.code] : undefined;
  if (kind === undefined || !(error instanceof SheepError)) throw error;
  const { oid } = error.facts;
  return {
    ...{ kind, at, length, message: describeError(error) },
    ...(typeof oid === 'string' && { object: oid }),
  };
}

function isData(oid: string): boolean {
  return oid.startsWith('0');
}

/** Joins neighbours of one kind in one object. */
class FlawRuns {
  #last: Flaw | undefined;

  /** Those that are complete by now. */
  add(flaw: Flaw): Flaw[] {
    const last = this.#last;
    const follows = last !== undefined && last.at + last.length === flaw.at;
    if (follows && last.kind === flaw.kind && last.object === flaw.object) {
      this.#last = { ...last, length: last.length + flaw.length };
      return [];
    }
    const complete = this.end();
    this.#last = flaw;
    return complete;
  }

  end(): Flaw[] {
    const last = this.#last;
    this.#last = undefined;
    return last === undefined ? [] : [last];
  }
}
