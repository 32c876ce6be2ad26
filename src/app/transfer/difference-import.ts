import { crc32 } from 'node:zlib';
import { SheepError } from '../../base/errors.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import type { Change, DifferenceReader } from './difference-reader.ts';
import type { ChangeRecord } from './difference-stream.ts';
import { deviceSink } from './ends.ts';
import { Lanes } from './lanes.ts';
import { TRANSFER_LIMITS } from './limits.ts';

/** What a whole stream holds. */
export interface DifferenceTotals {
  readonly records: number;
  readonly changedBytes: number;
}

type Told = (changedBytes: number) => void;

/**
 * Reads a stream to its end and holds the disk against it: every record has its checksum, nothing
 * is missing, and the disk has in every place what the record replaces. Changes nothing.
 * @throws SheepError `ERR_CORRUPT` for the stream; `ERR_BAD_INPUT` for a disk that is not its base
 */
export function checkDifference(
  reader: DifferenceReader,
  target: BlockDevice,
  told: Told,
  call: Call = {},
): Promise<DifferenceTotals> {
  return eachChange(reader, told, call, (change) => holdAgainst(target, change, call));
}

/**
 * The same, and applies it record by record. So when it rejects the disk may hold a part of it.
 * @param checked  `checkDifference` has found that the disk is the stream's base
 */
export async function applyDifference(
  reader: DifferenceReader,
  target: BlockDevice,
  checked: boolean,
  told: Told,
  call: Call = {},
): Promise<DifferenceTotals> {
  const sink = deviceSink(target, false);
  const totals = await eachChange(reader, told, call, async (change) => {
    if (!checked) await holdAgainst(target, change, call);
    const { at, length, bytes } = change;
    await (bytes === undefined ? sink.zero(at, length) : sink.write(at, bytes));
  });
  await target.flush(call);
  return totals;
}

async function eachChange(
  reader: DifferenceReader,
  told: Told,
  call: Call,
  work: (change: Change) => Promise<void>,
): Promise<DifferenceTotals> {
  let [records, changedBytes, done] = [0, 0, 0];
  await using lanes = new Lanes(TRANSFER_LIMITS.writeBehind, call);
  const changes = reader.changes();
  try {
    for (;;) {
      const next = await lanes.orFailure(changes.next());
      if (next.done === true) break;
      const change = next.value;
      records += 1;
      changedBytes += change.length;
      await lanes.start(async () => {
        await work(change);
        done += change.length;
        told(done);
      });
    }
    await lanes.ended();
  } catch (error) {
    changes.return(undefined).catch(() => undefined);
    throw error;
  }
  return { records, changedBytes };
}

/** What stands there now must be what the record replaces; behind the end of the disk are zeroes. */
async function holdAgainst(
  target: BlockDevice,
  { at, length, baseSum }: ChangeRecord,
  call: Call,
): Promise<void> {
  const bytes = new Uint8Array(length);
  const there = Math.min(length, Math.max(0, target.info.sizeBytes - at));
  if (there > 0) await target.read(at, bytes.subarray(0, there), call);
  if (crc32(bytes) === baseSum) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `at byte ${at} the disk is not what the difference was made from: it belongs to another one, ` +
      'or to another state of it',
    { at, length },
  );
}
