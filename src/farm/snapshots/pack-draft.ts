import { crc32 } from 'node:zlib';
import { assert } from '../../base/assert.ts';
import type { Compressed, ContentType } from '../../base/content.ts';
import type { Disk, DiskFile } from '../../contracts/disk.ts';
import type { SnapshotLimits } from './limits.ts';
import {
  encodeIndex,
  encodeObjectHeader,
  encodePackHeader,
  encodeTrailer,
  type IndexEntry,
  OBJECT_HEADER_BYTES,
  type PackHeader,
  TRAILER_BYTES,
} from './pack-format.ts';

export interface DraftPlace {
  readonly disk: Disk;
  /** Of the draft; nobody else writes it. */
  readonly path: string;
  readonly header: PackHeader;
  readonly limits: SnapshotLimits;
  /** Of `limits.writeBytes` each; taken from here, and given back when they are written. */
  readonly buffers: Uint8Array[];
}

/**
 * A pack that has no name yet. Objects are copied into buffers and written behind whoever appends;
 * `unwritten` and the length tell him when to wait. After a failure everything fails with it.
 */
export class PackDraft {
  readonly entries: IndexEntry[] = [];
  readonly #place: DraftPlace;
  #file: DiskFile | undefined;
  #buffer: Uint8Array;
  #filled = 0;
  /** Where in the file the buffer goes. */
  #bufferAt = 0;
  #unwritten = 0;
  #written: Promise<void>;
  readonly #reading = new Set<Promise<Uint8Array>>();

  constructor(place: DraftPlace) {
    this.#place = place;
    this.#buffer = this.#takeBuffer();
    this.#put(encodePackHeader(place.header));
    this.#written = this.#open();
    this.#written.catch(() => undefined); // whoever waits for it is told
  }

  /** Bytes so far, with what is not written yet. */
  get length(): number {
    return this.#bufferAt + this.#filled;
  }

  get isFull(): boolean {
    const { packBytes, packObjects } = this.#place.limits;
    return this.length >= packBytes || this.entries.length >= packObjects;
  }

  get unwrittenBytes(): number {
    return this.#unwritten;
  }

  /** @param stored  the bytes that `form` tells of; copied */
  append(
    type: ContentType,
    name: Uint8Array,
    rawBytes: number,
    form: Compressed,
    stored: Uint8Array,
  ): IndexEntry {
    assert(stored.length === form.length, 'what is stored is as long as it says');
    const header = new Uint8Array(OBJECT_HEADER_BYTES);
    const entry: IndexEntry = {
      ...{ type, name: name.slice(), offset: this.length },
      ...{ storedBytes: stored.length, rawBytes },
    };
    const { codec, crc } = form;
    encodeObjectHeader({ ...entry, codec, crc }, header);
    this.#put(header);
    this.#put(stored);
    this.entries.push(entry);
    return entry;
  }

  /** Settles when what was appended so far, but for the last buffer, is in the file. */
  written(): Promise<void> {
    return this.#written;
  }

  /** Index and trailer are written, and all of it is stable under the draft's name. */
  async seal(): Promise<void> {
    const { header } = this.#place;
    const indexAt = this.length;
    const sorted = this.entries.toSorted((a, b) => Buffer.compare(a.name, b.name));
    const index = encodeIndex(sorted);
    this.#put(index);
    const facts = { count: sorted.length, indexAt, indexCrc: crc32(index) };
    const trailer = encodeTrailer({ ...header, ...facts });
    assert(trailer.length === TRAILER_BYTES, 'a trailer has its length');
    this.#put(trailer);
    this.#flushBuffer();
    await this.#written;
    await this.#file?.sync();
  }

  /** What has been appended at `offset`, its header and what is stored. */
  readBack(entry: IndexEntry): Promise<Uint8Array> {
    const reading = this.#read(entry);
    this.#reading.add(reading);
    const done = () => void this.#reading.delete(reading);
    reading.then(done, done);
    return reading;
  }

  /** What is under way ends first. */
  async close(): Promise<void> {
    await Promise.allSettled([this.#written, ...this.#reading]);
    await this.#file?.[Symbol.asyncDispose]();
  }

  async #read({ offset, storedBytes }: IndexEntry): Promise<Uint8Array> {
    this.#flushBuffer();
    await this.#written;
    const bytes = new Uint8Array(OBJECT_HEADER_BYTES + storedBytes);
    await this.#file?.read(offset, bytes);
    return bytes;
  }

  #takeBuffer(): Uint8Array {
    return this.#place.buffers.pop() ?? new Uint8Array(this.#place.limits.writeBytes);
  }

  async #open(): Promise<void> {
    const { disk, path } = this.#place;
    this.#file = await disk.open(path, { create: true, exclusive: true });
  }

  #put(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + this.#buffer.length - this.#filled);
      this.#buffer.set(piece, this.#filled);
      this.#filled += piece.length;
      at += piece.length;
      if (this.#filled === this.#buffer.length) this.#flushBuffer();
    }
  }

  #flushBuffer(): void {
    if (this.#filled === 0) return;
    const buffer = this.#buffer;
    const bytes = buffer.subarray(0, this.#filled);
    const at = this.#bufferAt;
    this.#bufferAt += this.#filled;
    this.#filled = 0;
    this.#buffer = this.#takeBuffer();
    this.#unwritten += bytes.length;
    const before = this.#written;
    this.#written = (async () => {
      await before;
      await this.#file?.write(at, bytes);
      this.#unwritten -= bytes.length;
      this.#place.buffers.push(buffer);
    })();
    this.#written.catch(() => undefined);
  }
}
