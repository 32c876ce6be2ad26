import { Bitmap } from '../base/bitmap.ts';

/** What an open object knows of its blocks, one bit for each in each. */
export interface Marks {
  readonly verified: Bitmap;
  readonly dirty: Bitmap;
  readonly unhomed: Bitmap;
}

/** Of closed objects, for the next ones: see tables.ts. */
const SPARE_MAX = 256;
const spare: Marks[] = [];

/** Stands for those of an object that is closed: nothing is known of it. */
export const NO_MARKS = newMarks(0);

/** All of them clear. */
export function takeMarks(blocks: number): Marks {
  for (let marks = spare.pop(); marks !== undefined; marks = spare.pop()) {
    if (marks.verified.length === blocks) return marks;
  }
  return newMarks(blocks);
}

/** Nobody may use them any more. */
export function giveMarks(marks: Marks): void {
  if (marks === NO_MARKS || spare.length === SPARE_MAX) return;
  marks.verified.clear();
  marks.dirty.clear();
  marks.unhomed.clear();
  spare.push(marks);
}

function newMarks(blocks: number): Marks {
  const [verified, dirty, unhomed] = Bitmap.three(blocks);
  return { verified, dirty, unhomed };
}
