import { describeError, type FaultCode, SheepError } from '../base/errors.ts';
import { BLOCK_BYTES, KiB, roundDown } from '../base/units.ts';
import type { BlockDevice } from '../contracts/block-device.ts';

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
  /** Of objects that are there; where there is none nothing is read. */
  readonly readBytes: number;
  readonly flaws: readonly Flaw[];
}

/** Read at a time: little enough that nobody waits long behind it. */
const PIECE_BYTES = 256 * KiB;

const KINDS: { readonly [code in FaultCode]?: Flaw['kind'] } = {
  ERR_CORRUPT: 'damaged',
  ERR_MISSING: 'missing',
  ERR_IO: 'unreadable',
  ERR_VERSION: 'unreadable',
};

/**
 * Reads every object of a disk, so that every block of it is proven, and tells what fails: one flaw
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
  let readBytes = 0;
  for (let at = 0; at < sizeBytes; ) {
    await pace();
    at += await holeBytes(device, at, objectBytes);
    const end = Math.min(sizeBytes, at + objectBytes);
    while (at < end) {
      const into = piece.subarray(0, Math.min(piece.length, end - at));
      await pace();
      const flaws = await flawsOf(device, at, into, pace);
      at += into.length;
      readBytes += into.length;
      yield { readBytes, flaws: flaws.flatMap((flaw) => runs.add(flaw)) };
    }
  }
  yield { readBytes, flaws: runs.end() };
}

/** How many bytes from the beginning of an object on need no look, in whole objects. */
async function holeBytes(device: BlockDevice, at: number, objectBytes: number): Promise<number> {
  const { sizeBytes } = device.info;
  try {
    // First this object alone: for a run of data the device would look at the objects behind it.
    const own = Math.min(objectBytes, sizeBytes - at);
    const [first] = await device.extents(at, own, 1);
    if (first?.hole !== true || first.length < own) return 0;
    const [run] = await device.extents(at, sizeBytes - at, 1);
    const length = run?.hole === true ? run.length : own;
    return at + length === sizeBytes ? length : Math.max(own, roundDown(length, objectBytes));
  } catch (error) {
    flawOf(error, at, 0);
    return 0; // to read it says the same, block by block
  }
}

/** What fails in one piece, block by block only if something does. */
async function flawsOf(
  device: BlockDevice,
  at: number,
  into: Uint8Array,
  pace: () => Promise<void>,
): Promise<Flaw[]> {
  const whole = await readFlaw(device, at, into);
  if (whole === undefined) return [];
  // Without its inode no block of it can be read, and there may be millions.
  if (whole.object !== undefined && !isData(whole.object)) return [whole];
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
