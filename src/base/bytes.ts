import { assert } from './assert.ts';
import { SheepError } from './errors.ts';

// Tables on disk are little-endian and used in place (FORMATS.md, "Conventions").
assert(
  new Uint8Array(Uint32Array.of(1).buffer)[0] === 1,
  'sheepdog-nbd runs on little-endian machines',
);

/** Reads big-endian fields in order; every refusal names the field that was cut off. */
export class Reader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(field: string): number {
    return this.#view.getUint8(this.#step(1, field));
  }
  u16(field: string): number {
    return this.#view.getUint16(this.#step(2, field));
  }
  u32(field: string): number {
    return this.#view.getUint32(this.#step(4, field));
  }
  u64(field: string): bigint {
    return this.#view.getBigUint64(this.#step(8, field));
  }
  /** A 64-bit field that must fit a number. @throws SheepError `ERR_BAD_FRAME` from 2^53 on. */
  size(field: string): number {
    const value = this.u64(field);
    if (value >= 2n ** 53n) {
      throw new SheepError('ERR_BAD_FRAME', `${field} is above 2^53`, { value });
    }
    return Number(value);
  }
  /** The next `length` bytes, borrowed from the input. */
  bytes(length: number, field: string): Uint8Array {
    const at = this.#step(length, field);
    return this.#bytes.subarray(at, at + length);
  }
  /** Strict UTF-8 of `length` bytes. */
  text(length: number, field: string): string {
    const bytes = this.bytes(length, field);
    try {
      return strictUtf8.decode(bytes);
    } catch (cause) {
      throw new SheepError('ERR_BAD_FRAME', `${field} is not UTF-8`, {}, cause);
    }
  }
  /** Refuses bytes after the last field. */
  end(what: string): void {
    if (this.left > 0) {
      throw new SheepError('ERR_BAD_FRAME', `${this.left} bytes after ${what}`);
    }
  }

  #step(length: number, field: string): number {
    if (length > this.left) {
      throw new SheepError('ERR_BAD_FRAME', `${field} is cut off`, { length, left: this.left });
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Writes big-endian fields in order into bytes that grow as needed; for what is not hot. */
export class Writer {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #at = 0;

  constructor(roomBytes = 64) {
    this.#bytes = new Uint8Array(roomBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  u8(value: number): this {
    const at = this.#step(1);
    this.#view.setUint8(at, value);
    return this;
  }
  u16(value: number): this {
    const at = this.#step(2);
    this.#view.setUint16(at, value);
    return this;
  }
  u32(value: number): this {
    const at = this.#step(4);
    this.#view.setUint32(at, value);
    return this;
  }
  u64(value: bigint | number): this {
    const at = this.#step(8);
    this.#view.setBigUint64(at, BigInt(value));
    return this;
  }
  bytes(value: Uint8Array): this {
    const at = this.#step(value.length);
    this.#bytes.set(value, at);
    return this;
  }
  text(value: string): this {
    return this.bytes(new TextEncoder().encode(value));
  }
  zeroes(length: number): this {
    this.#step(length);
    return this;
  }
  /** Everything written so far; a view, not a copy. */
  done(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#at);
  }

  /** May replace the view: called before it is used. */
  #step(length: number): number {
    const at = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#at, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}
