import type { Entry } from '../contracts/coordinator.ts';
import { decodeRecord, type VolumeRecord } from './record.ts';

/** What stood under a key at a revision: it will never have been anything else. */
interface Known {
  readonly revision: bigint;
  readonly record: VolumeRecord;
}

/**
 * Records, each decoded once for each change of it: whoever may connect can ask for all of them
 * again and again. Holds those of the last whole listing, and what was read since.
 */
export class DecodedRecords {
  #known = new Map<string, Known>();

  get size(): number {
    return this.#known.size;
  }

  /** @throws SheepError as `decodeRecord`, each time */
  of({ key, value, revision }: Entry): VolumeRecord {
    const known = this.#known.get(key);
    if (known?.revision === revision) return known.record;
    const record = Object.freeze(decodeRecord(value, key));
    this.#known.set(key, { revision, record });
    return record;
  }

  /** Of every record that there is: others are forgotten. @throws SheepError as `decodeRecord` */
  all(entries: readonly Entry[]): VolumeRecord[] {
    const records = entries.map((entry) => this.of(entry));
    if (this.#known.size > entries.length) {
      const keys = new Set(entries.map(({ key }) => key));
      for (const key of this.#known.keys()) if (!keys.has(key)) this.#known.delete(key);
    }
    return records;
  }

  forget(key: string): void {
    this.#known.delete(key);
  }
}
