import { fstatSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { SheepError } from '../base/errors.ts';
import { MiB } from '../base/units.ts';
import { attempt, diskError, systemCode } from './disk-error.ts';
import { lseek, SEEK } from './syscalls.ts';

/**
 * Files that people name, as what a disk is copied from. Unlike Disk (contracts/disk.ts), which is
 * the store's own, it asks for holes, and knows nothing of power cuts.
 */

/** Bytes that read as zero, or that may be anything. */
interface Run {
  readonly length: number;
  readonly zero: boolean;
}

/** A file or block device: any part of it can be read at any time. */
export class ImageFile implements AsyncDisposable {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  readonly #path: string;

  constructor(handle: FileHandle, path: string, sizeBytes: number) {
    this.#handle = handle;
    this.#path = path;
    this.sizeBytes = sizeBytes;
  }

  /** The hole that begins at `at`, if one does, and the data behind it. */
  async runs(at: number, length: number): Promise<Run[]> {
    const end = at + length;
    const data = Math.min(end, await this.#next(SEEK.data, at));
    const hole = data < end ? Math.min(end, await this.#next(SEEK.hole, data)) : end;
    const runs = [
      { length: data - at, zero: true },
      { length: hole - data, zero: false },
    ];
    return runs.filter((run) => run.length > 0);
  }

  /** Fills all of `into`. @throws SheepError `ERR_IO`, also if the file has become shorter */
  async read(at: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await attempt('read', this.#path, () =>
        this.#handle.read(into, done, into.length - done, at + done),
      );
      if (bytesRead === 0) {
        const message = `${this.#path} has become shorter while it was read`;
        throw new SheepError('ERR_IO', message, { path: this.#path });
      }
      done += bytesRead;
    }
  }

  /** All of it from its beginning, each time that it is asked for. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < this.sizeBytes; at += MiB) {
      const chunk = new Uint8Array(Math.min(MiB, this.sizeBytes - at));
      await this.read(at, chunk);
      yield chunk;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  /** Where the next data, or the next hole, begins; the end of the file if there is none. */
  async #next(whence: number, at: number): Promise<number> {
    try {
      return await lseek(this.#handle.fd, at, whence);
    } catch (error) {
      if (systemCode(error) === 'ENXIO') return this.sizeBytes;
      // It cannot tell: all of it may be data.
      if (systemCode(error) === 'EINVAL') return whence === SEEK.data ? at : this.sizeBytes;
      throw diskError(error, 'seek in', this.#path);
    }
  }
}

/** A pipe, a socket or a terminal: it is read once, from its beginning to its end. */
export class ImageStream implements AsyncDisposable {
  readonly #readable: Readable;
  readonly #path: string;

  constructor(readable: Readable, path: string) {
    this.#readable = readable;
    this.#path = path;
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#readable as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw diskError(error, 'read', this.#path);
    }
  }

  /** Also ends a read that waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#readable.destroy();
  }
}

/** Opens what is at a path; `-` is standard input. */
export async function openImage(path: string): Promise<ImageFile | ImageStream> {
  if (path === '-') return openStandardInput();
  const handle = await attempt('open', path, () => open(path, 'r'));
  try {
    const stats = await handle.stat();
    if (stats.isDirectory()) {
      throw new SheepError('ERR_BAD_INPUT', `${path} is a directory; give a file`, { path });
    }
    if (!canSeek(stats)) return new ImageStream(handle.createReadStream(), path);
    // Of a block device the status says no size.
    return new ImageFile(handle, path, await lseek(handle.fd, 0, SEEK.end));
  } catch (error) {
    await handle.close();
    throw diskError(error, 'open', path);
  }
}

/** A file that the shell opened is as good as one that is named, if nobody has read of it. */
async function openStandardInput(): Promise<ImageFile | ImageStream> {
  const path = 'standard input';
  if (canSeek(fstatSync(STDIN)) && (await lseek(STDIN, 0, SEEK.current)) === 0) {
    const handle = await attempt('open', path, () => open('/dev/stdin', 'r'));
    return new ImageFile(handle, path, await lseek(handle.fd, 0, SEEK.end));
  }
  return new ImageStream(process.stdin, path);
}

const STDIN = 0;

function canSeek(stats: Stats): boolean {
  return stats.isFile() || stats.isBlockDevice();
}
