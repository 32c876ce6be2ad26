import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';

/** What is stored: a disk, or objects that look like one. */
export type CaptureSource = Pick<BlockDevice, 'read' | 'extents'> & {
  readonly info: Pick<BlockDevice['info'], 'sizeBytes'>;
};

/** Bytes of a disk. */
export interface ByteRange {
  readonly at: number;
  readonly length: number;
}

/** Slices `first` to `end - 1`: to be read, or known to be zeroes. */
export interface SliceRun {
  readonly first: number;
  readonly end: number;
  readonly zero: boolean;
}

/** How many extents are asked for at once. */
const EXTENTS_AT_ONCE = 4096;
/** What is shorter is read without asking what stands there: the question takes as long. */
const ASKED_SLICES_MIN = 3;

/**
 * The slices that `ranges` touch, in runs, each slice once, ascending.
 * @param ranges  ascending; parts behind the end of the disk are left out
 */
export async function* sliceRuns(
  device: CaptureSource,
  sliceBytes: number,
  ranges: AsyncIterable<ByteRange> | Iterable<ByteRange>,
  call: Call = {},
): AsyncGenerator<SliceRun> {
  const { sizeBytes } = device.info;
  let run: SliceRun | undefined;
  for await (const next of contents(
    device,
    slicesOf(ranges, sliceBytes, sizeBytes),
    sliceBytes,
    call,
  )) {
    if (run !== undefined && run.end === next.first && run.zero === next.zero) {
      run = { ...run, end: next.end };
    } else {
      if (run !== undefined) yield run;
      run = next;
    }
  }
  if (run !== undefined) yield run;
}

/** Whole slices, none twice. */
async function* slicesOf(
  ranges: AsyncIterable<ByteRange> | Iterable<ByteRange>,
  sliceBytes: number,
  sizeBytes: number,
): AsyncGenerator<{ first: number; end: number }> {
  let done = 0;
  for await (const { at, length } of ranges) {
    const first = Math.max(done, Math.floor(at / sliceBytes));
    const end = Math.ceil(Math.min(at + length, sizeBytes) / sliceBytes);
    if (end <= first) continue;
    yield { first, end };
    done = end;
  }
}

/** The same, told apart by what the disk says of them: one that is zeroes only in part is read. */
async function* contents(
  device: CaptureSource,
  runs: AsyncIterable<{ first: number; end: number }>,
  sliceBytes: number,
  call: Call,
): AsyncGenerator<SliceRun> {
  const { sizeBytes } = device.info;
  for await (const { first, end } of runs) {
    if (end - first < ASKED_SLICES_MIN) {
      yield { first, end, zero: false };
      continue;
    }
    let slice = first;
    const until = Math.min(end * sliceBytes, sizeBytes);
    for (let at = first * sliceBytes; at < until; ) {
      for (const { length, zero } of await device.extents(at, until - at, EXTENTS_AT_ONCE, call)) {
        at += length;
        // A slice in which data ends is read; one in which zeroes begin was.
        const reach = at >= until ? end : Math[zero ? 'floor' : 'ceil'](at / sliceBytes);
        if (reach > slice) yield { first: slice, end: reach, zero };
        slice = Math.max(slice, reach);
      }
    }
  }
}
