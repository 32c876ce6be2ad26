import { KIND, type ObjectName, slotOf, type Vid } from '../base/ids.ts';

/** A power of two; together about as many objects as are open at a time. */
const NAMES = 4096;

/** The names of a family's data objects. The latest are kept: a name for each request is garbage. */
export class DataNames {
  readonly family: Vid;
  readonly #recent: (ObjectName | undefined)[] = new Array(NAMES).fill(undefined);

  constructor(family: Vid) {
    this.family = family;
  }

  of(vid: Vid, index: number): ObjectName {
    const place = index & (NAMES - 1);
    const recent = this.#recent[place];
    if (recent !== undefined && recent.index === index && recent.vid === vid) return recent;
    const name = { kind: KIND.data, vid, index, slot: slotOf(this.family, index) };
    this.#recent[place] = name;
    return name;
  }
}
