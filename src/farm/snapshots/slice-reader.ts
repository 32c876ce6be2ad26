import { NAME_BYTES, type StoredPiece } from '../../base/content.ts';
import { describeError, SheepError } from '../../base/errors.ts';
import { forEachAtMost } from '../../base/parallel.ts';
import { decodeObjectHeader, OBJECT_HEADER_BYTES } from './pack-format.ts';
import type { SnapshotStore } from './store.ts';

/** A slice that is wanted: its name, and where in memory its content goes. */
export interface WantedSlice {
  readonly name: Uint8Array;
  readonly to: number;
}

/** A slice that could not be had. */
export interface LostSlice {
  readonly wanted: WantedSlice;
  readonly error: SheepError;
}

interface Located extends WantedSlice {
  readonly entry: number;
  readonly pack: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Objects this near to each other are read together, with what lies between. */
const GAP_BYTES_MAX = 32 * 1024;
const READS_AT_ONCE = 4;

/** Reads slices by many at once, proven by the pool, into memory of its own. */
export class SliceReader implements Disposable {
  readonly #store: SnapshotStore;
  /** As many slices as are read at once; where one is lost it is not changed. */
  readonly bytes: Uint8Array;
  /** What is stored of a batch. */
  #stored: Uint8Array;

  constructor(store: SnapshotStore) {
    const { pool } = store.options;
    this.#store = store;
    this.bytes = pool.memory(store.batchSlices * store.identity.sliceBytes);
    this.#stored = pool.memory(0);
  }

  /**
   * One call at a time, of as many slices as a batch has at most.
   * @returns those that are not there or not what their name says
   */
  async read(wanted: readonly WantedSlice[]): Promise<LostSlice[]> {
    const { located, others } = this.#locate(wanted);
    const lost: LostSlice[] = [];
    const again = [...others];
    const places = this.#placesFor(located);
    try {
      await this.#readRuns(located, places);
      again.push(...(await this.#prove(located, places)));
    } catch {
      // A pack went meanwhile, or cannot be read, or who proves has died: one by one tells.
      again.push(...located);
    }
    for (const each of again) {
      const error = await this.#readAlone(each);
      if (error !== undefined) lost.push({ wanted: each, error });
    }
    return lost;
  }

  [Symbol.dispose](): void {
    const { pool } = this.#store.options;
    pool.giveBack(this.bytes);
    pool.giveBack(this.#stored);
  }

  /** In the order of the medium. */
  #locate(wanted: readonly WantedSlice[]) {
    const { index } = this.#store.packs;
    const located: Located[] = [];
    const others: WantedSlice[] = [];
    for (const each of wanted) {
      const entry = index.find(each.name);
      if (entry < 0) {
        others.push(each);
        continue;
      }
      const { pack, offset, storedBytes } = index.at(entry);
      located.push({ ...each, entry, pack, offset, bytes: OBJECT_HEADER_BYTES + storedBytes });
    }
    located.sort((a, b) => a.pack - b.pack || a.offset - b.offset);
    return { located, others };
  }

  /** Where each of them will stand in `#stored`: as far apart as in its pack, if near. */
  #placesFor(located: readonly Located[]): number[] {
    let end = 0;
    let last: Located | undefined;
    const places = located.map((each) => {
      const gap = last?.pack === each.pack ? each.offset - last.offset - last.bytes : Infinity;
      const place = gap <= GAP_BYTES_MAX && last !== undefined ? end + gap : end;
      end = Math.max(end, place + each.bytes);
      last = each;
      return place;
    });
    if (end > this.#stored.length) {
      const { pool } = this.#store.options;
      const larger = pool.memory(end * 2);
      pool.giveBack(this.#stored);
      this.#stored = larger;
    }
    return places;
  }

  async #readRuns(located: readonly Located[], places: readonly number[]): Promise<void> {
    const runs: { pack: number; at: number; place: number; end: number }[] = [];
    for (const [index, { pack, offset, bytes }] of located.entries()) {
      const place = places[index] as number;
      const run = runs.at(-1);
      if (run?.pack === pack && offset - run.at === place - run.place) {
        run.end = Math.max(run.end, place + bytes);
      } else {
        runs.push({ pack, at: offset, place, end: place + bytes });
      }
    }
    await forEachAtMost(READS_AT_ONCE, runs, async ({ pack, at, place, end }) => {
      await this.#store.packs.readAt(pack, at, this.#stored.subarray(place, end));
    });
  }

  /** @returns those that are not what they should be */
  async #prove(located: readonly Located[], places: readonly number[]): Promise<WantedSlice[]> {
    const bad: WantedSlice[] = [];
    const pieces: StoredPiece[] = [];
    const of: Located[] = [];
    const { identity, options } = this.#store;
    for (const [index, each] of located.entries()) {
      const place = places[index] as number;
      const header = decodeObjectHeader(this.#stored.subarray(place, place + each.bytes));
      const fits =
        header !== undefined &&
        header.type === 'data' &&
        header.rawBytes === identity.sliceBytes &&
        header.storedBytes === each.bytes - OBJECT_HEADER_BYTES &&
        Buffer.compare(header.name, each.name) === 0;
      if (!fits) {
        bad.push(each);
        continue;
      }
      const { codec, crc, type, rawBytes, storedBytes } = header;
      const at = place + OBJECT_HEADER_BYTES;
      pieces.push({ codec, crc, type, rawBytes, length: storedBytes, at, to: each.to });
      of.push(each);
    }
    if (pieces.length === 0) return bad;
    const names = new Uint8Array(pieces.length * NAME_BYTES);
    for (const [index, { name }] of of.entries()) names.set(name, index * NAME_BYTES);
    const { hash } = identity;
    const job = { hash, stored: this.#stored, names, pieces, into: this.bytes };
    const flaws = await options.pool.prove(job);
    for (const [index, flaw] of flaws.entries()) {
      const each = of[index];
      if (flaw !== undefined && each !== undefined) bad.push(each);
    }
    return bad;
  }

  /** With all copies that there are; says what is wrong. */
  async #readAlone({ name, to }: WantedSlice): Promise<SheepError | undefined> {
    try {
      const payload = await this.#store.read(name, 'data');
      if (payload.length === this.#store.identity.sliceBytes) {
        this.bytes.set(payload, to);
        return undefined;
      }
      const id = this.#store.format(name);
      return new SheepError('ERR_CORRUPT', `object ${id} is not as long as a slice`, {
        object: id,
      });
    } catch (error) {
      if (error instanceof SheepError) return error;
      throw new SheepError('ERR_IO', describeError(error), {}, error);
    }
  }
}
