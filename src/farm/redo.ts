import { SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { blockSum } from './checksums.ts';
import type { BlockRun } from './origins.ts';

/** Where a block stands in the journal. */
export interface JournalBlock {
  readonly path: string;
  readonly at: number;
  readonly sum: number;
}

/** A block as a flush promised it. */
export interface RedoBlock {
  readonly sequence: number;
  readonly from: JournalBlock | 'hole';
}

/** What the journal still owes one object. */
export interface RedoObject {
  readonly name: ObjectName;
  readonly stamp: Stamp;
  readonly objectBytes: number;
  /** It was made, under this life, and inherits if there are any pages of origins. */
  made?: { sequence: number; life: bigint; origins: Map<number, JournalBlock> } | undefined;
  removed?: { sequence: number } | undefined;
  readonly blocks: Map<number, RedoBlock>;
  /** What it inherits no longer. */
  zeroed: (BlockRun & { readonly sequence: number })[];
}

export type Redo = Map<number | string, RedoObject>;

/** What it owes the object, found or begun. */
export function owed(
  redo: Redo,
  key: number | string,
  known: Pick<RedoObject, 'name' | 'stamp' | 'objectBytes'>,
): RedoObject {
  const before = redo.get(key);
  if (before !== undefined) return before;
  const made: RedoObject = { ...known, blocks: new Map(), zeroed: [] };
  redo.set(key, made);
  return made;
}

/** What was said of the object up to this sequence is done. */
export function settle(redo: Redo, key: number | string, upTo: number): void {
  const object = redo.get(key);
  if (object === undefined) return;
  if (object.made !== undefined && object.made.sequence <= upTo) object.made = undefined;
  if (object.removed !== undefined && object.removed.sequence <= upTo) object.removed = undefined;
  for (const [block, { sequence }] of object.blocks) {
    if (sequence <= upTo) object.blocks.delete(block);
  }
  object.zeroed = object.zeroed.filter(({ sequence }) => sequence > upTo);
  if (object.made !== undefined || object.removed !== undefined) return;
  if (object.blocks.size === 0 && object.zeroed.length === 0) redo.delete(key);
}

/** @throws SheepError `ERR_CORRUPT` if the journal's bytes changed since they were scanned */
export async function readRedoBlock(
  file: DiskFile,
  from: JournalBlock,
  name: ObjectName,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  await file.read(from.at, bytes);
  if (blockSum(bytes) === from.sum) return bytes;
  const oid = formatOid(name);
  throw new SheepError('ERR_CORRUPT', `journal ${from.path}: a block of ${oid} is damaged`, {
    oid,
    at: from.at,
  });
}
