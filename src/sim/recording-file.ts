import type { DiskFile } from '../contracts/disk.ts';
import type { DiskLog } from './disk-log.ts';

/** A handle of a RecordingDisk. */
export class RecordingFile implements DiskFile {
  readonly #inner: DiskFile;
  readonly #log: DiskLog;
  /** Where in the log it was opened. */
  readonly #file: number;
  #closed = false;

  constructor(inner: DiskFile, log: DiskLog, file: number) {
    this.#inner = inner;
    this.#log = log;
    this.#file = file;
  }

  readNow(at: number, into: Uint8Array): number {
    return this.#inner.readNow(at, into);
  }
  read(at: number, into: Uint8Array): Promise<number> {
    return this.#inner.read(at, into);
  }
  size(): Promise<number> {
    return this.#inner.size();
  }
  writeNow(at: number, from: Uint8Array): void {
    this.#inner.writeNow(at, from);
    this.#log.now({ kind: 'write', file: this.#file, at, bytes: from.slice() });
  }
  async write(at: number, from: Uint8Array): Promise<void> {
    const effect = { kind: 'write', file: this.#file, at, bytes: from.slice() } as const;
    await this.#log.later(effect, () => this.#inner.write(at, from));
  }
  async sync(): Promise<void> {
    await this.#log.later({ kind: 'sync', file: this.#file }, () => this.#inner.sync());
  }
  beginSyncNow(at: number, length: number): void {
    this.#inner.beginSyncNow(at, length);
  }
  async punch(at: number, length: number): Promise<void> {
    const effect = { kind: 'punch', file: this.#file, at, length } as const;
    await this.#log.later(effect, () => this.#inner.punch(at, length));
  }
  async zero(at: number, length: number): Promise<void> {
    const effect = { kind: 'zero', file: this.#file, at, length } as const;
    await this.#log.later(effect, () => this.#inner.zero(at, length));
  }
  async truncate(sizeBytes: number): Promise<void> {
    const effect = { kind: 'truncate', file: this.#file, sizeBytes } as const;
    await this.#log.later(effect, () => this.#inner.truncate(sizeBytes));
  }
  closeNow(): void {
    this.#inner.closeNow();
    if (!this.#closed) this.#log.now({ kind: 'close', file: this.#file });
    this.#closed = true;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow();
    await this.#inner[Symbol.asyncDispose]();
  }
}
