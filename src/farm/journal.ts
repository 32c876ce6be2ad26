import { isFault, SheepError } from '../base/errors.ts';
import { Gate } from '../base/gate.ts';
import { BLOCK_BYTES, KiB } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import {
  encodeRecordHead,
  encodeSegmentHeader,
  type JournalEntry,
  recordBytesOf,
  SEGMENT_HEADER_BYTES,
  type SequencedEntry,
} from './journal-format.ts';

interface Pending {
  readonly entries: readonly SequencedEntry[];
  readonly data: readonly Uint8Array[];
  readonly settle: PromiseWithResolvers<void>;
}

/** A place in the journal: what is appended later has a higher sequence, in no older segment. */
export interface JournalPoint {
  readonly sequence: number;
  readonly segment: number;
}

export interface JournalOwner {
  /** Everything the activity log holds, to begin a new segment with; the first entry is `reset`. */
  snapshot(): JournalEntry[];
  /** These entries were appended; they will stand in this segment or a later one. */
  appended(entries: readonly SequencedEntry[], segment: number): void;
  /** There is one segment more. */
  rotated(): void;
  /** Nothing will be appended any more. */
  failed(error: SheepError): void;
}

export interface JournalPlace {
  readonly disk: Disk;
  /** The store's folder; segments lie in `journal/` below it. */
  readonly directory: string;
  readonly storeId: string;
  readonly bootId: string;
  readonly segmentBytes: number;
}

export function segmentPath(directory: string, segment: number): string {
  return `${directory}/journal/${segment.toString().padStart(10, '0')}`;
}

/** A segment that nobody needs, to become the next one. */
function sparePath(directory: string): string {
  return `${directory}/journal/spare`;
}

/** Appends in one record: their order stands in 16 bits. */
const APPENDS_MAX = 65_535;

/** Written in pieces of this size: larger ones make folios in which small writes cost three times as
 * much (ARCHITECTURE.md). */
const ZEROES = new Uint8Array(64 * KiB);

/**
 * Appends records, one sync at a time: whatever arrives during a sync shares the next one (group
 * commit). Segments are written full of zeroes before they are used, because a sync of bytes that
 * need no new space is several times cheaper.
 */
export class Journal {
  readonly #place: JournalPlace;
  readonly #owner: JournalOwner;
  #file: DiskFile;
  #segment: number;
  #record: number;
  #sequence: number;
  #at = SEGMENT_HEADER_BYTES;
  /** From here on the next segment is due. */
  #fullAt: number;
  #renewing = false;
  /**
   * Who changes names in the folder is alone: a spare that is used before its own name is stable
   * could come back under its old one, with the new segment in it.
   */
  readonly #names = new Gate();
  readonly #pending: Pending[] = [];
  #pumping: Promise<void> | undefined;
  #broken: SheepError | undefined;
  /** Segments whose entries may still be needed, oldest first; the last is being written. */
  readonly #segments: number[];
  /** The oldest of them was given back, and under which name it comes back is not stable. */
  #givenBack = false;

  private constructor(
    place: JournalPlace,
    owner: JournalOwner,
    file: DiskFile,
    segment: number,
    next: { record: number; sequence: number },
  ) {
    this.#place = place;
    this.#owner = owner;
    this.#file = file;
    this.#segment = segment;
    this.#record = next.record;
    this.#sequence = next.sequence;
    this.#segments = [segment];
    this.#fullAt = place.segmentBytes;
  }

  /** Starts at a new segment; older ones may be removed once this has settled. */
  static async start(
    place: JournalPlace,
    owner: JournalOwner,
    segment: number,
    next: { record: number; sequence: number },
  ): Promise<Journal> {
    await place.disk.makeDirectory(`${place.directory}/journal`);
    const file = await newSegmentFile(place, segment);
    const journal = new Journal(place, owner, file, segment, next);
    await journal.#begin();
    return journal;
  }

  /** The last append, stable or not. */
  get reached(): JournalPoint {
    return { sequence: this.#sequence - 1, segment: this.#segment };
  }
  get segmentBytes(): number {
    return this.#place.segmentBytes;
  }
  get segments(): readonly number[] {
    return this.#segments;
  }

  /** Settles when the entries are stable, together and in order. `data`: the `data` blocks. */
  append(entries: readonly JournalEntry[], data: readonly Uint8Array[] = []): Promise<void> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const settle = Promise.withResolvers<void>();
    const sequence = this.#sequence;
    this.#sequence += 1;
    const sequenced = entries.map((entry) => ({ ...entry, sequence }));
    this.#owner.appended(sequenced, this.#segment);
    this.#pending.push({ entries: sequenced, data, settle });
    this.#pumping ??= this.#pump();
    return settle.promise;
  }

  /**
   * The oldest segment, which nothing needs any more, becomes the spare one, or goes. Its name is
   * stable before the next step, so that a power cut never leaves a gap between segments.
   */
  discardOldest(): Promise<void> {
    return this.#names.pass(true, () => this.#discardOldest());
  }

  async #discardOldest(): Promise<void> {
    // The last segment may have failed at its beginning: then the one before it is all there is.
    if (this.#broken !== undefined) throw this.#broken;
    const oldest = this.#segments[0];
    if (oldest === undefined || oldest === this.#segment) return;
    const { disk, directory } = this.#place;
    if (!this.#givenBack) await giveBack(disk, directory, segmentPath(directory, oldest));
    this.#givenBack = true;
    await disk.syncDirectory(`${directory}/journal`);
    this.#givenBack = false;
    this.#segments.shift();
  }

  /**
   * The next append begins a segment if there is space for one: for the last words of a stop, so
   * that a start reads no more than these.
   */
  renew(): void {
    this.#renewing = true;
  }

  async close(): Promise<void> {
    await this.#pumping;
    this.#file.closeNow();
  }

  async #pump(): Promise<void> {
    // Everything that is asked for in this turn shares the first sync.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const batch = this.#takeBatch();
      try {
        await this.#commit(batch);
        for (const { settle } of batch) settle.resolve();
      } catch (error) {
        this.#fail(error, batch);
      }
    }
    this.#pumping = undefined;
  }

  /** As many as fit one segment; at least one. */
  #takeBatch(): Pending[] {
    let bytes = 0;
    let count = 0;
    for (const { entries, data } of this.#pending) {
      bytes += recordBytesOf(entries.length, blocksIn(data));
      if (count > 0 && (bytes > this.#place.segmentBytes / 2 || count === APPENDS_MAX)) break;
      count += 1;
    }
    return this.#pending.splice(0, count);
  }

  async #commit(batch: readonly Pending[]): Promise<void> {
    const entries = batch.flatMap((pending) => pending.entries);
    const data = batch.flatMap((pending) => pending.data);
    const full = this.#at + recordBytesOf(entries.length, blocksIn(data)) > this.#fullAt;
    if (full || this.#renewing) await this.#rotate(full);
    this.#write(entries, data);
    await this.#file.sync();
  }

  #write(entries: readonly SequencedEntry[], data: readonly Uint8Array[]): void {
    const head = encodeRecordHead(this.#segment, { record: this.#record, entries });
    this.#record += 1;
    const bytes = data.length === 0 ? head : Buffer.concat([head, ...data]);
    this.#file.writeNow(this.#at, bytes);
    this.#at += bytes.length;
  }

  async #rotate(must: boolean): Promise<void> {
    this.#renewing = false;
    const rotated = await this.#names.pass(true, () => this.#beginNext(must));
    if (rotated) this.#owner.rotated();
  }

  /** Until it stands on its own nobody discards the one before it. */
  async #beginNext(must: boolean): Promise<boolean> {
    const next = this.#segment + 1;
    const making = newSegmentFile(this.#place, next, !this.#givenBack);
    const file = await making.catch((error: unknown) => {
      if (must || !isFault(error, 'ERR_NO_SPACE')) throw error;
    });
    if (file === undefined) return false;
    this.#file.closeNow();
    this.#file = file;
    this.#segment = next;
    this.#segments.push(next);
    try {
      await this.#begin();
    } catch (error) {
      throw this.#break(error);
    }
    return true;
  }

  /** Header and snapshot of the activity log: with these the segment stands on its own. */
  async #begin(): Promise<void> {
    await this.#writeHeader();
    const { sequence } = this.reached;
    const snapshot = this.#owner.snapshot().map((entry) => ({ ...entry, sequence }));
    this.#write(snapshot, []);
    // However long the snapshot is, something fits behind it.
    const { segmentBytes } = this.#place;
    this.#fullAt = Math.max(segmentBytes, this.#at + segmentBytes / 2);
    await this.#file.sync();
    await this.#place.disk.syncDirectory(`${this.#place.directory}/journal`);
  }

  /** Stable before the first record: so a segment without a header never holds one. */
  async #writeHeader(): Promise<void> {
    const { storeId, bootId } = this.#place;
    const header = { storeId, segment: this.#segment, record: this.#record, bootId };
    this.#file.writeNow(0, encodeSegmentHeader(header));
    await this.#file.sync();
    this.#at = SEGMENT_HEADER_BYTES;
  }

  /**
   * After a failed sync nobody knows what is stable, and a second sync would lie: nothing is ever
   * appended again.
   */
  #fail(error: unknown, batch: readonly Pending[]): void {
    const broken = this.#break(error);
    for (const { settle } of [...batch, ...this.#pending.splice(0)]) settle.reject(broken);
  }

  #break(error: unknown): SheepError {
    if (this.#broken === undefined) {
      this.#broken = new SheepError('ERR_LOST', 'the journal cannot be written', {}, error);
      this.#owner.failed(this.#broken);
    }
    return this.#broken;
  }
}

/** A segment that nobody needs becomes the spare one, or goes. */
export async function giveBack(disk: Disk, directory: string, path: string): Promise<void> {
  const spare = sparePath(directory);
  if (await disk.exists(spare)) await disk.remove(path);
  else await disk.rename(path, spare);
}

/**
 * A file of zeroes of full length, or the spare one: its old records cannot follow a new header. Its
 * name need not be stable before it is used: under the old one nobody reads it.
 */
async function newSegmentFile(
  place: JournalPlace,
  segment: number,
  useSpare = true,
): Promise<DiskFile> {
  const { disk, directory, segmentBytes } = place;
  const path = segmentPath(directory, segment);
  if (useSpare && (await disk.exists(sparePath(directory)))) {
    await disk.rename(sparePath(directory), path);
    return disk.open(path);
  }
  const file = await disk.open(path, { create: true, truncate: true });
  try {
    for (let at = 0; at < segmentBytes; at += ZEROES.length) {
      await file.write(at, ZEROES.subarray(0, Math.min(ZEROES.length, segmentBytes - at)));
    }
    return file;
  } catch (error) {
    file.closeNow();
    await disk.remove(path);
    throw error;
  }
}

function blocksIn(data: readonly Uint8Array[]): number {
  return data.reduce((sum, { length }) => sum + length / BLOCK_BYTES, 0);
}
