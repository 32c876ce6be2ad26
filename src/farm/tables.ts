import { BLOCK_BYTES, roundUp } from '../base/units.ts';

/** Tables of closed objects, for the next ones: their garbage would outweigh those in use. */
const SPARE_MAX = 256;
const spare: Uint32Array<ArrayBuffer>[] = [];

/** Stands for the table of an object that is closed: nothing can be proven by it. */
export const NO_TABLE = new Uint32Array(0);

/** A table of holes; its buffer is as long as the table is in the file, in whole pages. */
export function takeTable(blocks: number): Uint32Array<ArrayBuffer> {
  for (let table = spare.pop(); table !== undefined; table = spare.pop()) {
    if (table.length !== blocks) continue;
    new Uint8Array(table.buffer).fill(0); // the rest of its last page too: it goes to the file
    return table;
  }
  return newTable(blocks);
}

/** One that is never given back. */
export function newTable(blocks: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(new ArrayBuffer(roundUp(blocks * 4, BLOCK_BYTES)), 0, blocks);
}

/** Nobody may use it any more. */
export function giveTable(table: Uint32Array<ArrayBuffer>): void {
  if (table.length > 0 && spare.length < SPARE_MAX) spare.push(table);
}
