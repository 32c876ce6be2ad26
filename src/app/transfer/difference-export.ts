import { crc32 } from 'node:zlib';
import { BLOCK_BYTES } from '../../base/units.ts';
import type { Call } from '../../contracts/call.ts';
import { isZero } from '../../farm/checksums.ts';
import { type Range, RunCursor } from './changes.ts';
import {
  type ChangeRecord,
  chainOf,
  type DifferenceHeader,
  type EndRecord,
  encodeDifferenceHeader,
  encodeRecordHead,
} from './difference-stream.ts';
import type { ImageSource, Run } from './ends.ts';
import { TRANSFER_LIMITS } from './limits.ts';
import { PieceMemory, pieceEnd } from './pieces.ts';
import { loadAhead } from './read-ahead.ts';

/** A part of the disk as it is and as the base has it. */
interface Pair extends Range {
  readonly now: Uint8Array;
  readonly base: Uint8Array;
  readonly release: () => void;
}

/** What is known to be zero is not read. Nobody writes to it. */
const ZEROES = new Uint8Array(TRANSFER_LIMITS.pieceBytes);

export interface DifferenceSources {
  readonly header: DifferenceHeader;
  readonly now: ImageSource;
  readonly base: ImageSource;
  /** The only parts of `now` that may differ from `base`, in order. */
  readonly changed: AsyncIterable<Range>;
}

/** How far the disk has been looked through, and what was found. */
export interface DifferenceProgress {
  readonly lookedAtBytes: number;
  readonly records: number;
  readonly changedBytes: number;
}

/**
 * The bytes of a difference stream. Both sides are read and compared block by block, so it holds
 * only what really differs, and with each record the checksum of what it replaces. What it yields is
 * lent until the next is taken.
 */
export async function* differenceStream(
  sources: DifferenceSources,
  told: (soFar: DifferenceProgress) => void,
  call: Call = {},
): AsyncGenerator<Uint8Array> {
  const header = encodeDifferenceHeader(sources.header);
  yield header;
  let chain = chainOf(header);
  let [records, changedBytes] = [0, 0];
  const headOf = (record: ChangeRecord | EndRecord): Uint8Array => {
    const head = encodeRecordHead(record, chain);
    chain = chainOf(head);
    return head;
  };
  for await (const pair of pairs(sources, call)) {
    for (const record of recordsOf(pair)) {
      records += 1;
      changedBytes += record.length;
      yield headOf(record);
      const from = record.at - pair.at;
      if (record.kind === 'data') yield pair.now.subarray(from, from + record.length);
    }
    pair.release();
    told({ lookedAtBytes: pair.at + pair.length, records, changedBytes });
  }
  yield headOf({ kind: 'end', records, changedBytes });
  told({ lookedAtBytes: sources.now.sizeBytes, records, changedBytes });
}

/** Both sides of everything that changed, but for what both know to be zero. */
function pairs(sources: DifferenceSources, call: Call): AsyncGenerator<Pair> {
  const memory = new PieceMemory();
  const side = async (source: ImageSource, zero: boolean, at: number, length: number) => {
    if (zero) return { bytes: ZEROES.subarray(0, length), release: () => undefined };
    const whole = memory.take();
    const bytes = whole.subarray(0, length);
    await source.read(at, bytes, call);
    return { bytes, release: () => memory.give(whole) };
  };
  return loadAhead(
    planOf(sources, call),
    async ({ at, length, nowZero, baseZero }) => {
      const [now, base] = await Promise.all([
        side(sources.now, nowZero, at, length),
        side(sources.base, baseZero, at, length),
      ]);
      const release = () => {
        now.release();
        base.release();
      };
      return { at, length, now: now.bytes, base: base.bytes, release };
    },
    call,
  );
}

async function* planOf(
  { now, base, changed }: DifferenceSources,
  call: Call,
): AsyncGenerator<Range & { nowZero: boolean; baseZero: boolean }> {
  const [ofNow, ofBase] = [runsOf(now, call), runsOf(base, call)];
  for await (const { at: from, length } of changed) {
    for (let at = from; at < from + length; ) {
      const [a, b] = await Promise.all([ofNow.find(at), ofBase.find(at)]);
      const [nowZero, baseZero] = [a.run.zero, b.run.zero];
      let end = Math.min(from + length, a.end, b.end);
      if (!nowZero || !baseZero) {
        end = Math.min(end, pieceEnd(at));
        yield { at, length: end - at, nowZero, baseZero };
      }
      at = end;
    }
  }
}

/** Behind its end a disk is zero. */
function runsOf(source: ImageSource, call: Call): RunCursor<Run> {
  return new RunCursor(async (at) => {
    const left = source.sizeBytes - at;
    if (left > 0) return source.runs(at, left, call);
    return [{ length: Number.POSITIVE_INFINITY, zero: true }];
  });
}

/** Runs of blocks that differ. */
function recordsOf({ at, length, now, base }: Pair): ChangeRecord[] {
  const runs: { kind: 'data' | 'zero' | 'same'; from: number; to: number }[] = [];
  for (let from = 0; from < length; from += BLOCK_BYTES) {
    const to = Math.min(from + BLOCK_BYTES, length);
    const block = now.subarray(from, to);
    const same = Buffer.compare(block, base.subarray(from, to)) === 0;
    const kind = same ? 'same' : isZero(block) ? 'zero' : 'data';
    const last = runs.at(-1);
    if (last?.kind === kind) last.to = to;
    else runs.push({ kind, from, to });
  }
  return runs.flatMap(({ kind, from, to }) => {
    if (kind === 'same') return [];
    const baseSum = crc32(base.subarray(from, to));
    const sum = kind === 'data' ? crc32(now.subarray(from, to)) : 0;
    return [{ kind, at: at + from, length: to - from, baseSum, sum }];
  });
}
