import type { Extent } from '../contracts/block-device.ts';
import type { ObjectExtent } from '../contracts/object-store.ts';
import { Runs } from './runs.ts';

/** Joins runs of like content into extents, up to a number of them. */
export class ExtentRuns extends Runs<ObjectExtent['content']> {
  done(): Extent[] {
    return this.asked().map(({ length, value }) => ({
      length,
      hole: value === 'hole',
      zero: value !== 'data',
    }));
  }
}
