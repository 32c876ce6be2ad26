import { isFault, SheepError } from '../base/errors.ts';
import { objectKey } from '../base/ids.ts';
import { BLOCK_BYTES, MiB } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import type { Listed } from './activity-log.ts';
import { blockSum } from './checksums.ts';
import { segmentPath } from './journal.ts';
import {
  bootMark,
  decodeRecordHead,
  decodeSegmentHeader,
  ENTRY,
  hasBlock,
  type JournalEntry,
  type JournalRecord,
  recordExtent,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  type SequencedEntry,
  unpackBlocks,
} from './journal-format.ts';
import { owed, type Redo, settle } from './redo.ts';

export interface JournalScan {
  readonly listed: Map<number | string, Listed>;
  readonly redo: Redo;
  /** The last thing it says is that everything is stable. */
  clean: boolean;
  /** No segment says anything: so it is in a store that was never opened. */
  silent: boolean;
  /** Of the last start; undefined for a store that was never opened. */
  bootId?: string;
  nextSegment: number;
  nextRecord: number;
  nextSequence: number;
  readonly segmentFiles: string[];
}

/**
 * Reads the journal and says what it owes. A torn tail is where it ends; a gap, or a record that
 * cannot be read although later ones follow, is damage.
 * @throws SheepError `ERR_CORRUPT` with file and position, `ERR_VERSION`
 */
export async function scanJournal(
  disk: Disk,
  directory: string,
  storeId: string,
): Promise<JournalScan> {
  const names = await disk.list(`${directory}/journal`);
  const numbers = names.filter((name) => /^\d{10}$/.test(name)).map(Number);
  const scan: JournalScan = {
    listed: new Map(),
    redo: new Map(),
    clean: true,
    silent: false,
    nextSegment: (numbers.at(-1) ?? 0) + 1,
    nextRecord: 1,
    nextSequence: 1,
    segmentFiles: numbers.map((number) => segmentPath(directory, number)),
  };
  const readers = numbers.map(
    (number) => new SegmentReader(disk, segmentPath(directory, number), number, scan),
  );
  // Segments that were being begun when everything stopped: they say nothing yet.
  while (readers.length > 0 && (await readers.at(-1)?.isBlank())) readers.pop();
  scan.silent = readers.length === 0;
  // A start begins a segment when everything before it has been done: what lies before the newest
  // of these is left over from a start that was cut short.
  let start = readers.length - 1;
  while (start > 0 && !(await readers[start]?.begunByStart())) start -= 1;
  for (const [place, reader] of readers.entries()) {
    if (place < start) continue;
    await reader.read({ first: place === start, storeId });
  }
  return scan;
}

class SegmentReader {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #number: number;
  readonly #scan: JournalScan;
  #boot = 0n;

  constructor(disk: Disk, path: string, number: number, scan: JournalScan) {
    this.#disk = disk;
    this.#path = path;
    this.#number = number;
    this.#scan = scan;
  }

  /**
   * True if no record ever became stable in it.
   * @throws SheepError `ERR_VERSION`: of another version nobody knows what a record looks like
   */
  async isBlank(): Promise<boolean> {
    await using file = await this.#disk.open(this.#path);
    const sizeBytes = await file.size();
    await this.#refuseOtherVersion(file);
    if ((await this.#recordAt(file, SEGMENT_HEADER_BYTES, sizeBytes)) !== undefined) {
      return false;
    }
    return !(await this.#anyRecord(file, 0, sizeBytes, 0));
  }

  /** True if its first record is the one that a start writes. */
  async begunByStart(): Promise<boolean> {
    await using file = await this.#disk.open(this.#path);
    const record = await this.#recordAt(file, SEGMENT_HEADER_BYTES, await file.size());
    const first = record?.entries[0];
    return first?.type === ENTRY.reset && first.detail === 1n;
  }

  /** Applies every record of it. */
  async read({ first, storeId }: { first: boolean; storeId: string }): Promise<void> {
    await using file = await this.#disk.open(this.#path);
    const sizeBytes = await file.size();
    const header = await this.#header(file, storeId);
    if (first) this.#scan.nextRecord = header.record;
    if (header.record !== this.#scan.nextRecord) {
      throw this.#damaged(0, 'records before it are missing');
    }
    this.#scan.bootId = header.bootId;
    this.#boot = bootMark(header.bootId);
    let at: number | undefined = SEGMENT_HEADER_BYTES;
    let end = at;
    while (at !== undefined) {
      end = at;
      at = await this.#record(file, at, sizeBytes);
    }
    // A later record proves that the one at `end` was stable once: damaged, then, and not torn.
    if (await this.#anyRecord(file, end, sizeBytes, this.#scan.nextRecord)) {
      throw this.#damaged(end, 'a record cannot be read, and later ones follow');
    }
  }

  async #refuseOtherVersion(file: DiskFile): Promise<void> {
    try {
      decodeSegmentHeader(await headerBytes(file));
    } catch (error) {
      if (!isFault(error, 'ERR_CORRUPT')) throw error;
    }
  }

  async #header(file: DiskFile, storeId: string): Promise<SegmentHeader> {
    const header = this.#decodeHeader(await headerBytes(file));
    if (header.segment !== this.#number) {
      throw this.#damaged(0, `it says it is segment ${header.segment}`);
    }
    if (header.storeId !== storeId) {
      throw this.#damaged(0, `it belongs to store ${header.storeId}`);
    }
    return header;
  }

  #decodeHeader(bytes: Uint8Array): SegmentHeader {
    try {
      return decodeSegmentHeader(bytes);
    } catch (error) {
      if (isFault(error, 'ERR_CORRUPT')) throw this.#damaged(0, error.message);
      throw error;
    }
  }

  /** Applies the record at `at`; returns where the next one begins, undefined at the end. */
  async #record(file: DiskFile, at: number, sizeBytes: number): Promise<number | undefined> {
    const record = await this.#recordAt(file, at, sizeBytes);
    if (record === undefined || record.record !== this.#scan.nextRecord) return undefined;
    if (!(await this.#dataStands(file, record.dataAt, record.entries))) return undefined;
    this.#scan.clean = false;
    let block = record.dataAt;
    for (const entry of record.entries) {
      this.#apply(entry, block);
      this.#scan.nextSequence = Math.max(this.#scan.nextSequence, entry.sequence + 1);
      if (hasBlock(entry)) block += BLOCK_BYTES;
    }
    this.#scan.nextRecord += 1;
    return block;
  }

  /** The record of this segment that begins at `at`, if one does; its data is not proven. */
  async #recordAt(
    file: DiskFile,
    at: number,
    sizeBytes: number,
  ): Promise<(JournalRecord & { dataAt: number }) | undefined> {
    const first = new Uint8Array(BLOCK_BYTES);
    if ((await file.read(at, first)) < BLOCK_BYTES) return undefined;
    const extent = recordExtent(first, this.#number, sizeBytes - at);
    if (typeof extent === 'string') return undefined;
    const head = new Uint8Array(extent.headBytes);
    await file.read(at, head);
    const record = decodeRecordHead(head);
    return record === undefined ? undefined : { ...record, dataAt: at + extent.headBytes };
  }

  async #dataStands(
    file: DiskFile,
    at: number,
    entries: readonly JournalEntry[],
  ): Promise<boolean> {
    const sums = entries.filter(hasBlock).map(({ sum }) => sum);
    const bytes = new Uint8Array(sums.length * BLOCK_BYTES);
    await file.read(at, bytes);
    return sums.every((sum, index) => {
      const from = index * BLOCK_BYTES;
      return blockSum(bytes.subarray(from, from + BLOCK_BYTES)) === sum;
    });
  }

  #apply(entry: SequencedEntry, dataAt: number): void {
    const { listed, redo } = this.#scan;
    const { type, name, stamp, objectBytes, detail, sum, sequence } = entry;
    const key = objectKey(name.kind, name.vid, name.index);
    const known = { name, stamp, objectBytes };
    const list = (boot: bigint, life: bigint, gone = false) =>
      listed.set(key, {
        ...{ ...known, life, boot, suspect: !gone },
        ...{ redo: undefined, leaving: false, gone, round: 0 },
      });
    switch (type) {
      case ENTRY.reset:
        listed.clear();
        if (detail === 1n) redo.clear();
        return;
      case ENTRY.list:
        list(detail, listed.get(key)?.life ?? 0n);
        return;
      case ENTRY.create:
        list(this.#boot, detail);
        redo.set(key, {
          ...known,
          made: { sequence, life: detail, origins: new Map() },
          ...{ blocks: new Map(), zeroed: [] },
        });
        return;
      case ENTRY.inherit:
        redo.get(key)?.made?.origins.set(Number(detail), { path: this.#path, at: dataAt, sum });
        return;
      case ENTRY.zeroed:
        owed(redo, key, known).zeroed.push({ sequence, ...unpackBlocks(detail) });
        return;
      case ENTRY.remove:
        list(this.#boot, 0n, true);
        redo.set(key, { ...known, removed: { sequence }, blocks: new Map(), zeroed: [] });
        return;
      case ENTRY.data:
        owed(redo, key, known).blocks.set(Number(detail), {
          sequence,
          from: { path: this.#path, at: dataAt, sum },
        });
        return;
      case ENTRY.hole:
        owed(redo, key, known).blocks.set(Number(detail), { sequence, from: 'hole' });
        return;
      case ENTRY.homed:
        settle(redo, key, Number(detail));
        return;
      case ENTRY.retire:
        listed.delete(key);
        redo.delete(key);
        return;
      case ENTRY.clean:
        this.#scan.clean = true;
        redo.clear();
        for (const each of listed.values()) each.suspect = false;
        return;
    }
  }

  async #anyRecord(
    file: DiskFile,
    from: number,
    sizeBytes: number,
    after: number,
  ): Promise<boolean> {
    const buffer = new Uint8Array(MiB);
    for (let at = from; at < sizeBytes; at += buffer.length) {
      const got = await file.read(at, buffer);
      for (let offset = 0; offset + BLOCK_BYTES <= got; offset += BLOCK_BYTES) {
        const block = buffer.subarray(offset, offset + BLOCK_BYTES);
        const extent = recordExtent(block, this.#number, sizeBytes - at - offset);
        if (typeof extent === 'string' || extent.record <= after) continue;
        if ((await this.#recordAt(file, at + offset, sizeBytes)) !== undefined) return true;
      }
    }
    return false;
  }

  #damaged(at: number, why: string): SheepError {
    return new SheepError('ERR_CORRUPT', `journal ${this.#path} is damaged at byte ${at}: ${why}`, {
      path: this.#path,
      at,
    });
  }
}

async function headerBytes(file: DiskFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  return bytes.subarray(0, await file.read(0, bytes));
}
