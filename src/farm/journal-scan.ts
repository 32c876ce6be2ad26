import { SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName, objectKey, type Stamp } from '../base/ids.ts';
import { BLOCK_BYTES, MiB } from '../base/units.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import type { Listed } from './activity-log.ts';
import { crcSum } from './checksums.ts';
import { segmentPath } from './journal.ts';
import {
  bootMark,
  decodeRecordHead,
  decodeSegmentHeader,
  ENTRY,
  type JournalEntry,
  recordExtent,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './journal-format.ts';

/** A block as a flush promised it: where its bytes stand in the journal, or a hole. */
export interface RedoBlock {
  readonly sequence: number;
  readonly from: { readonly path: string; readonly at: number; readonly sum: number } | 'hole';
}

/** What the journal still owes one object. */
export interface RedoObject {
  readonly name: ObjectName;
  readonly stamp: Stamp;
  readonly objectBytes: number;
  /** It was made, under this life. */
  made?: { sequence: number; life: bigint } | undefined;
  removed?: { sequence: number } | undefined;
  readonly blocks: Map<number, RedoBlock>;
}

export interface JournalScan {
  readonly listed: Map<number | string, Listed>;
  readonly redo: Map<number | string, RedoObject>;
  /** The last thing it says is that everything is stable. */
  clean: boolean;
  /** Of the last start; undefined for a store that was never opened. */
  bootId?: string;
  nextSegment: number;
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
  const numbers = names.map(Number).sort((a, b) => a - b);
  const scan: JournalScan = {
    listed: new Map(),
    redo: new Map(),
    clean: true,
    nextSegment: (numbers.at(-1) ?? 0) + 1,
    nextSequence: 1,
    segmentFiles: numbers.map((number) => segmentPath(directory, number)),
  };
  for (const [place, number] of numbers.entries()) {
    const last = place === numbers.length - 1;
    const reader = new SegmentReader(disk, segmentPath(directory, number), number, scan);
    await reader.read({ first: place === 0, last, storeId });
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

  async read(place: { first: boolean; last: boolean; storeId: string }): Promise<void> {
    await using file = await this.#disk.open(this.#path);
    const sizeBytes = await file.size();
    const header = await this.#header(file, place);
    if (header === undefined) return;
    if (place.first) this.#scan.nextSequence = header.sequence;
    else if (header.sequence !== this.#scan.nextSequence) throw this.#damaged(0, 'records are missing');
    this.#boot = bootMark(header.bootId);
    let at = SEGMENT_HEADER_BYTES;
    for (;;) {
      const next = await this.#record(file, at, sizeBytes);
      if (next === undefined) break;
      at = next;
    }
    if (at === SEGMENT_HEADER_BYTES && !place.last) throw this.#damaged(at, 'it has no records');
    if (at > SEGMENT_HEADER_BYTES) this.#scan.bootId = header.bootId;
    await this.#refuseLaterRecords(file, at, sizeBytes);
  }

  /** Undefined for a last segment whose beginning never became stable. */
  async #header(
    file: DiskFile,
    place: { last: boolean; storeId: string },
  ): Promise<SegmentHeader | undefined> {
    const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
    const got = await file.read(0, bytes);
    try {
      const header = decodeSegmentHeader(bytes.subarray(0, got));
      if (header.segment !== this.#number) {
        if (place.last) return undefined;
        throw this.#damaged(0, `it says it is segment ${header.segment}`);
      }
      if (header.storeId !== place.storeId) {
        throw this.#damaged(0, `it belongs to store ${header.storeId}`);
      }
      return header;
    } catch (error) {
      if (error instanceof SheepError && error.code === 'ERR_CORRUPT') {
        if (place.last && !(await this.#anyRecord(file, 0, await file.size(), 0))) return undefined;
        throw this.#damaged(0, error.message);
      }
      throw error;
    }
  }

  /** Applies the record at `at`; returns where the next one begins, undefined at the end. */
  async #record(file: DiskFile, at: number, sizeBytes: number): Promise<number | undefined> {
    const first = new Uint8Array(BLOCK_BYTES);
    if ((await file.read(at, first)) < BLOCK_BYTES) return undefined;
    const extent = recordExtent(first, this.#number, sizeBytes - at);
    if (typeof extent === 'string' || extent.sequence !== this.#scan.nextSequence) return undefined;
    const head = new Uint8Array(extent.headBytes);
    await file.read(at, head);
    const record = decodeRecordHead(head);
    if (record === undefined) return undefined;
    const dataAt = at + extent.headBytes;
    if (!(await this.#dataStands(file, dataAt, record.entries))) return undefined;
    this.#scan.clean = false;
    let block = dataAt;
    for (const entry of record.entries) {
      this.#apply(entry, record.sequence, block);
      if (entry.type === ENTRY.data) block += BLOCK_BYTES;
    }
    this.#scan.nextSequence += 1;
    return at + extent.recordBytes;
  }

  async #dataStands(file: DiskFile, at: number, entries: readonly JournalEntry[]): Promise<boolean> {
    const sums = entries.filter(({ type }) => type === ENTRY.data).map(({ sum }) => sum);
    const bytes = new Uint8Array(sums.length * BLOCK_BYTES);
    await file.read(at, bytes);
    return sums.every((sum, index) => {
      const from = index * BLOCK_BYTES;
      return crcSum(bytes.subarray(from, from + BLOCK_BYTES)) === sum;
    });
  }

  #apply(entry: JournalEntry, sequence: number, dataAt: number): void {
    const { listed, redo } = this.#scan;
    const { type, name, stamp, objectBytes, detail, sum } = entry;
    const key = objectKey(name.kind, name.vid, name.index);
    const known = { name, stamp, objectBytes };
    const list = (boot: bigint, life: bigint) =>
      listed.set(key, { ...known, life, boot, suspect: true, redo: undefined });
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
        redo.set(key, { ...known, made: { sequence, life: detail }, blocks: new Map() });
        return;
      case ENTRY.remove:
        redo.set(key, { ...known, removed: { sequence }, blocks: new Map() });
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
        return;
    }
  }

  /** A later record proves that the one at `at` was stable once: then it is damaged, not torn. */
  async #refuseLaterRecords(file: DiskFile, at: number, sizeBytes: number): Promise<void> {
    if (await this.#anyRecord(file, at, sizeBytes, this.#scan.nextSequence)) {
      throw this.#damaged(at, 'a record cannot be read, and later ones follow');
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
        if (typeof extent === 'string' || extent.sequence <= after) continue;
        const head = new Uint8Array(extent.headBytes);
        await file.read(at + offset, head);
        if (decodeRecordHead(head) !== undefined) return true;
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

function owed(
  redo: JournalScan['redo'],
  key: number | string,
  known: Pick<RedoObject, 'name' | 'stamp' | 'objectBytes'>,
): RedoObject {
  const before = redo.get(key);
  if (before !== undefined) return before;
  const made: RedoObject = { ...known, blocks: new Map() };
  redo.set(key, made);
  return made;
}

/** What was said of the object up to this sequence is done. */
function settle(redo: JournalScan['redo'], key: number | string, upTo: number): void {
  const object = redo.get(key);
  if (object === undefined) return;
  if (object.made !== undefined && object.made.sequence <= upTo) object.made = undefined;
  if (object.removed !== undefined && object.removed.sequence <= upTo) object.removed = undefined;
  for (const [block, { sequence }] of object.blocks) {
    if (sequence <= upTo) object.blocks.delete(block);
  }
  if (object.made === undefined && object.removed === undefined && object.blocks.size === 0) {
    redo.delete(key);
  }
}

/** @throws SheepError `ERR_CORRUPT` if the journal's bytes changed since they were scanned */
export async function readRedoBlock(
  file: DiskFile,
  from: { path: string; at: number; sum: number },
  name: ObjectName,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  await file.read(from.at, bytes);
  if (crcSum(bytes) === from.sum) return bytes;
  const oid = formatOid(name);
  throw new SheepError('ERR_CORRUPT', `journal ${from.path}: a block of ${oid} is damaged`, {
    oid,
    at: from.at,
  });
}
