import { isDamage } from '../../base/errors.ts';
import { allSettled } from '../../base/parallel.ts';
import { BLOCK_BYTES } from '../../base/units.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { RestoreTarget } from '../../farm/snapshots/restore.ts';
import { zeroRuns } from '../transfer/pieces.ts';

const ZEROING = { durable: false, keepAllocated: false, fastOnly: false };

/**
 * A disk that takes no space for what it holds already: a slice is many blocks, of which few may have
 * changed, and what is not written stays shared with its parent. Zeroes become holes.
 * @param fresh  all of it is zeroes: it need not be read
 */
export function sparing(
  device: Pick<BlockDevice, 'info' | 'read' | 'write' | 'writeZeroes'>,
  fresh: boolean,
): RestoreTarget {
  return {
    info: device.info,
    writeZeroes: (at, length, call) => device.writeZeroes(at, length, call),
    write: async (at, from, call) => {
      const there = fresh ? undefined : await readable(device, at, from.length);
      const writes: Promise<void>[] = [];
      let end = 0;
      for (const { length, zero } of zeroRuns(from)) {
        const begin = end;
        end += length;
        if (zero && fresh) continue;
        for (const [first, last] of differing(from, there, begin, end)) {
          // Also one that fails at once waits for the others: they read `from`.
          const write = async () =>
            zero
              ? device.writeZeroes(at + first, last - first, { ...ZEROING, ...call })
              : device.write(at + first, from.subarray(first, last), call);
          writes.push(write());
        }
      }
      await allSettled(writes);
    },
  };
}

/** Undefined if it cannot be read: then all of it is written. */
async function readable(
  device: Pick<BlockDevice, 'read'>,
  at: number,
  length: number,
): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(length);
  try {
    await device.read(at, bytes);
    return bytes;
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}

/** Runs of blocks from `begin` to `end` that are not the same in both. */
function differing(
  wanted: Uint8Array,
  there: Uint8Array | undefined,
  begin: number,
  end: number,
): [number, number][] {
  if (there === undefined) return [[begin, end]];
  const runs: [number, number][] = [];
  for (let at = begin; at < end; at += BLOCK_BYTES) {
    const to = Math.min(end, at + BLOCK_BYTES);
    if (Buffer.compare(wanted.subarray(at, to), there.subarray(at, to)) === 0) continue;
    const last = runs.at(-1);
    if (last?.[1] === at) last[1] = to;
    else runs.push([at, to]);
  }
  return runs;
}
