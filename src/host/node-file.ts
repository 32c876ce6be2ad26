import * as fs from 'node:fs';
import { assert } from '../base/assert.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { diskError, systemCode } from './disk-error.ts';
import { beginWriteback, FALLOCATE, fallocate, NOT_SUPPORTED, readCached } from './syscalls.ts';

/**
 * One descriptor. It is closed only when no operation is under way on it any more: the pool would
 * otherwise read or write whatever file got the same number next.
 */
export class NodeFile implements DiskFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #synced: (durationMs: number) => void;
  #underWay = 0;
  #closing = false;
  #closed = false;
  /** Who waits for that: hardly anybody, and files are opened too often for a promise each. */
  #whenClosed: PromiseWithResolvers<void> | undefined;
  /** Cleared where the file system cannot tell what is cached; then every read takes the pool. */
  #tellsCached = true;
  #syncFailure: unknown;

  /** @param synced  is told how long each sync has taken */
  constructor(fd: number, path: string, synced: (durationMs: number) => void) {
    this.#fd = fd;
    this.#path = path;
    this.#synced = synced;
  }

  readNow(at: number, into: Uint8Array): number {
    assert(!this.#closing, 'an open file is read');
    if (!this.#tellsCached) return -1;
    let done = 0;
    while (done < into.length) {
      // A short answer is the end of the file or the end of what is cached: the next one tells.
      const got = this.#readCached(at + done, into, done);
      if (got < 0) return -1;
      if (got === 0) break;
      done += got;
    }
    return done;
  }

  async read(at: number, into: Uint8Array): Promise<number> {
    return this.#using('read', async (fd) => {
      let done = 0;
      while (done < into.length) {
        const got = await readOnce(fd, into, done, at + done);
        if (got === 0) break;
        done += got;
      }
      return done;
    });
  }

  writeNow(at: number, from: Uint8Array): void {
    assert(!this.#closing, 'an open file is written');
    try {
      for (let done = 0; done < from.length; ) {
        done += fs.writeSync(this.#fd, from, done, from.length - done, at + done);
      }
    } catch (error) {
      throw diskError(error, 'write', this.#path);
    }
  }

  async write(at: number, from: Uint8Array): Promise<void> {
    return this.#using('write', async (fd) => {
      for (let done = 0; done < from.length; ) {
        done += await writeOnce(fd, from, done, at + done);
      }
    });
  }

  async sync(): Promise<void> {
    if (this.#syncFailure !== undefined) throw this.#syncFailure;
    const startedMs = performance.now();
    try {
      await this.#using('sync', (fd) => settled((done) => fs.fdatasync(fd, done)));
    } catch (error) {
      this.#syncFailure ??= error;
      throw error;
    } finally {
      this.#synced(performance.now() - startedMs);
    }
  }

  beginSyncNow(at: number, length: number): void {
    assert(!this.#closing, 'an open file is synced');
    beginWriteback(this.#fd, at, length);
  }

  async punch(at: number, length: number): Promise<void> {
    if (length === 0) return;
    return this.#using('punch', (fd) =>
      fallocate(fd, FALLOCATE.punchHole + FALLOCATE.keepSize, at, length),
    );
  }

  async zero(at: number, length: number): Promise<void> {
    if (length === 0) return;
    return this.#using('zero', async (fd) => {
      try {
        await fallocate(fd, FALLOCATE.zeroRange, at, length);
      } catch (error) {
        if (systemCode(error) !== 'ENOTSUP') throw error;
        // tmpfs and a few others can do it only in two steps.
        await fallocate(fd, FALLOCATE.punchHole + FALLOCATE.keepSize, at, length);
        await fallocate(fd, 0, at, length);
      }
    });
  }

  async truncate(sizeBytes: number): Promise<void> {
    return this.#using('truncate', (fd) => settled((done) => fs.ftruncate(fd, sizeBytes, done)));
  }

  async size(): Promise<number> {
    return this.#using('stat', async (fd) => {
      const stats = await new Promise<fs.Stats>((resolve, reject) => {
        fs.fstat(fd, (error, found) => (error ? reject(error) : resolve(found)));
      });
      return stats.size;
    });
  }

  closeNow(): void {
    if (this.#closing) return;
    this.#closing = true;
    if (this.#underWay === 0) this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.closeNow();
    if (this.#closed) return Promise.resolve();
    this.#whenClosed ??= Promise.withResolvers();
    return this.#whenClosed.promise;
  }

  #readCached(at: number, into: Uint8Array, skip: number): number {
    try {
      const got = readCached(this.#fd, at, into, skip);
      if (got === NOT_SUPPORTED) this.#tellsCached = false;
      return got;
    } catch (error) {
      throw diskError(error, 'read', this.#path);
    }
  }

  async #using<T>(operation: string, act: (fd: number) => Promise<T>): Promise<T> {
    assert(!this.#closing, `an open file is the place to ${operation}`);
    this.#underWay += 1;
    try {
      return await act(this.#fd);
    } catch (error) {
      throw diskError(error, operation, this.#path);
    } finally {
      this.#underWay -= 1;
      if (this.#closing && this.#underWay === 0) this.#close();
    }
  }

  #close(): void {
    try {
      fs.closeSync(this.#fd);
    } catch (error) {
      throw diskError(error, 'close', this.#path);
    } finally {
      this.#closed = true;
      this.#whenClosed?.resolve();
    }
  }
}

/** One of node:fs's calls that only say whether they failed. */
export function settled(start: (done: fs.NoParamCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error ? reject(error) : resolve()));
  });
}

function readOnce(fd: number, into: Uint8Array, skip: number, at: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, into, skip, into.length - skip, at, (error, got) =>
      error ? reject(error) : resolve(got),
    );
  });
}

function writeOnce(fd: number, from: Uint8Array, skip: number, at: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, from, skip, from.length - skip, at, (error, put) =>
      error ? reject(error) : resolve(put),
    );
  });
}
