import type { Vid } from '../base/ids.ts';
import { BLOCK_BYTES, roundUp } from '../base/units.ts';
import type { Described } from '../contracts/block-device.ts';
import type { Call } from '../contracts/call.ts';
import { objectCount } from './geometry.ts';
import { Runs } from './runs.ts';

/** Objects whose blocks one call looks at: 0.1 ms each, or a file to be opened. */
const LOOKS_MAX = 16;

/** Per block of an object the vid whose object holds it, 0 for a hole; undefined: all are holes. */
export type Sources = Uint32Array | undefined;

/** What is said of objects: of several alike, or of one, block by block. */
export type Look =
  | { readonly upTo: number; readonly flags: number }
  | { readonly flagsOf: (block: number) => number };

/**
 * What changed between two states of one object. A block that the same vid holds in both is the same:
 * whatever a vid holds was never written again once another state was taken. The other way round,
 * blocks with other holders may still be equal.
 */
export function changedBlock(before: Sources, after: Sources, block: number): boolean {
  return (before?.[block] ?? 0) !== (after?.[block] ?? 0);
}

/**
 * How far below a VDI the vid stands that holds a block: 0 nobody does, 1 the VDI itself.
 * @param levels  as of `levelsOf`
 */
export function depthOf(source: Vid, levels: ReadonlyMap<Vid, number>): number {
  if (source === 0) return 0;
  return levels.get(source) ?? Math.max(...levels.values()) + 1;
}

/**
 * Describes `at` to `at + length`, or the beginning of it if to know more would take long.
 * @param look  what there is to say from an object on; it is asked in order
 */
export async function describeObjects(
  range: Call & {
    readonly at: number;
    readonly length: number;
    readonly countMax: number;
    readonly objectBytes: number;
  },
  look: (index: number, endIndex: number) => Promise<Look>,
): Promise<Described[]> {
  const { at, length, countMax, objectBytes, signal } = range;
  const runs = new Runs<number>(countMax);
  const end = at + length;
  let looks = 0;
  for (let position = at; position < end && !runs.full; ) {
    if (looks === LOOKS_MAX && runs.some) break;
    signal?.throwIfAborted();
    const index = Math.floor(position / objectBytes);
    const said = await look(index, objectCount(end, objectBytes));
    const upTo = 'upTo' in said ? said.upTo : index + 1;
    const to = Math.min(end, upTo * objectBytes);
    if ('upTo' in said) runs.add(to - position, said.flags);
    else {
      looks += 1;
      addBlocks(runs, position, to, (byte) =>
        said.flagsOf(Math.floor((byte - index * objectBytes) / BLOCK_BYTES)),
      );
    }
    position = to;
  }
  return runs.asked().map(({ length: bytes, value }) => ({ length: bytes, flags: value }));
}

function addBlocks(
  runs: Runs<number>,
  from: number,
  to: number,
  flagsAt: (byte: number) => number,
) {
  for (let byte = from; byte < to && !runs.full; ) {
    const next = Math.min(to, roundUp(byte + 1, BLOCK_BYTES));
    runs.add(next - byte, flagsAt(byte));
    byte = next;
  }
}
