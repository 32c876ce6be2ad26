import { crc32 } from 'node:zlib';
import {
  type ChangeRecord,
  chainOf,
  DIFFERENCE_HEADER_BYTES,
  type DifferenceHeader,
  damaged,
  decodeDifferenceHeader,
  decodeRecordHead,
  RECORD_HEAD_BYTES,
} from './difference-stream.ts';

/** A change, and for `data` the bytes that are there now, in memory of their own. */
export interface Change extends ChangeRecord {
  readonly bytes?: Uint8Array;
}

/** Chunks of any size as runs of bytes that are asked for. */
class Taker {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next `length` bytes. @throws SheepError `ERR_CORRUPT` if the stream ends before */
  async take(length: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      if (this.#rest.length === 0 && !(await this.#more())) throw damaged(`it ends ${what}`);
      const part = this.#rest.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return bytes;
  }

  /** @throws SheepError `ERR_CORRUPT` if there is anything left */
  async end(): Promise<void> {
    if (this.#rest.length > 0 || (await this.#more())) throw damaged('something follows its end');
  }

  async #more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#rest = next.value;
    }
    return true;
  }
}

/** Reads a difference stream from its first byte on. Nothing of it is told that does not hold. */
export class DifferenceReader {
  readonly #taker: Taker;
  #header: Uint8Array | undefined;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#taker = new Taker(chunks);
  }

  /** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
  async header(): Promise<DifferenceHeader> {
    this.#header ??= await this.#taker.take(DIFFERENCE_HEADER_BYTES, 'inside its header');
    return decodeDifferenceHeader(this.#header);
  }

  /** The changes in order; ends behind the last one, and only if the stream is whole. */
  async *changes(): AsyncGenerator<Change> {
    const header = await this.header();
    let before = chainOf(this.#header as Uint8Array);
    let [end, records, changedBytes] = [0, 0, 0];
    for (;;) {
      const head = await this.#taker.take(RECORD_HEAD_BYTES, `behind record ${records}`);
      const record = decodeRecordHead(head, { header, before, end, records, changedBytes });
      if (record.kind === 'end') {
        await this.#taker.end();
        return;
      }
      records += 1;
      const bytes =
        record.kind === 'data'
          ? await this.#taker.take(record.length, `inside record ${records}`)
          : undefined;
      if (bytes !== undefined && crc32(bytes) !== record.sum) {
        throw damaged(`the bytes of record ${records} are altered`);
      }
      yield bytes === undefined ? record : { ...record, bytes };
      before = chainOf(head);
      end = record.at + record.length;
      changedBytes += record.length;
    }
  }
}
