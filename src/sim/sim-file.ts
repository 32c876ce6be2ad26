import { assert } from '../base/assert.ts';
import type { DiskFile } from '../contracts/disk.ts';
import type { FileNode } from './directory-state.ts';
import type { Effect } from './disk-tree.ts';
import type { DiskOperation, SimProcess } from './sim-process.ts';

/** A handle on a file of a SimDisk. */
export class SimFile implements DiskFile {
  readonly #process: SimProcess;
  readonly #file: FileNode;
  readonly #path: string;
  readonly #cached: (path: string) => boolean;
  #closed = false;
  #syncFailure: unknown;

  constructor(
    process: SimProcess,
    file: FileNode,
    path: string,
    cached: (path: string) => boolean,
  ) {
    this.#process = process;
    this.#file = file;
    this.#path = path;
    this.#cached = cached;
  }

  readNow(at: number, into: Uint8Array): number {
    assert(!this.#closed, 'an open file is read');
    this.#process.check('read', this.#path);
    return this.#cached(this.#path) ? this.#file.bytes.read(at, into) : -1;
  }

  async read(at: number, into: Uint8Array): Promise<number> {
    assert(!this.#closed, 'an open file is read');
    await this.#process.wait('read', this.#path);
    return this.#file.bytes.read(at, into);
  }

  writeNow(at: number, from: Uint8Array): void {
    assert(!this.#closed, 'an open file is written');
    const effect = { kind: 'write', file: this.#file, at, bytes: from.slice() } as const;
    this.#process.now('write', this.#path, effect);
  }

  async write(at: number, from: Uint8Array): Promise<void> {
    const bytes = from.slice();
    await this.#later('write', { kind: 'write', file: this.#file, at, bytes });
    assert(Buffer.compare(from, bytes) === 0, 'lent bytes are not altered before a write settles');
  }

  async sync(): Promise<void> {
    if (this.#syncFailure !== undefined) throw this.#syncFailure;
    try {
      await this.#later('sync', { kind: 'sync', file: this.#file });
    } catch (error) {
      this.#syncFailure ??= error;
      throw error;
    }
  }

  /** What has begun may be on the medium or not: as with any byte that no sync has covered. */
  beginSyncNow(_at: number, _length: number): void {
    assert(!this.#closed, 'an open file is synced');
  }

  async punch(at: number, length: number): Promise<void> {
    if (length > 0) await this.#later('punch', { kind: 'punch', file: this.#file, at, length });
  }

  async zero(at: number, length: number): Promise<void> {
    if (length > 0) await this.#later('zero', { kind: 'zero', file: this.#file, at, length });
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#later('truncate', { kind: 'truncate', file: this.#file, sizeBytes });
  }

  async size(): Promise<number> {
    assert(!this.#closed, 'an open file is measured');
    await this.#process.wait('size', this.#path);
    return this.#file.bytes.sizeBytes;
  }

  closeNow(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#process.tree.now({ kind: 'close', file: this.#file });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow();
  }

  async #later(operation: DiskOperation, effect: Effect<FileNode>): Promise<void> {
    assert(!this.#closed, `an open file is the place to ${operation}`);
    await this.#process.later(operation, this.#path, effect);
  }
}
