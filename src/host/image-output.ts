import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SheepError } from '../base/errors.ts';
import { attempt, systemCode } from './disk-error.ts';
import { beginWriteback, FALLOCATE, fallocate, lockNow, lseek, SEEK } from './syscalls.ts';

/** Files that people name, as where a disk is copied to. */

/** Only its owner may read what was on somebody's disk. */
const FILE_MODE = 0o600;

/**
 * A file or a block device of which any part can be written at any time. A file takes its name only
 * when all of it is there and on the medium: until then it is called NAME.draft, and what had the name
 * before stays as it was.
 */
export class ImageOutput implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #path: string;
  /** What the path is called until it is complete; absent for a block device. */
  readonly #draft: string | undefined;
  #complete = false;

  constructor(handle: FileHandle, path: string, draft: string | undefined) {
    this.#handle = handle;
    this.#path = path;
    this.#draft = draft;
  }

  /** What is there if it is not completed, as the end of a sentence. */
  get unfinished(): string {
    return this.#draft === undefined
      ? `${this.#path} holds a part of it`
      : `${this.#path} is as it was before`;
  }

  /** Makes room for so many bytes, which read as zero in a file. @throws SheepError `ERR_NO_SPACE` */
  async begin(sizeBytes: number): Promise<void> {
    if (this.#draft !== undefined) {
      await attempt('write', this.#draft, () => this.#handle.truncate(sizeBytes));
      return;
    }
    const roomBytes = await lseek(this.#handle.fd, 0, SEEK.end);
    if (roomBytes >= sizeBytes) return;
    throw new SheepError(
      'ERR_NO_SPACE',
      `${this.#path} has ${roomBytes} bytes, and the disk ${sizeBytes}`,
      { roomBytes, sizeBytes },
    );
  }

  async write(at: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; ) {
      const { bytesWritten } = await attempt('write', this.#draft ?? this.#path, () =>
        this.#handle.write(from, done, from.length - done, at + done),
      );
      done += bytesWritten;
    }
    // Or all of it would wait for the sync at the end, and the disk would have idled until then.
    beginWriteback(this.#handle.fd, at, from.length);
  }

  /** In a file these bytes are holes since `begin`. */
  async zero(at: number, length: number): Promise<void> {
    if (this.#draft !== undefined) return;
    const mode = FALLOCATE.zeroRange + FALLOCATE.keepSize;
    await attempt('zero', this.#path, () => fallocate(this.#handle.fd, mode, at, length));
  }

  /** All of it is there: settles when it survives a power cut, under its name. */
  async complete(): Promise<void> {
    const draft = this.#draft;
    await attempt('sync', draft ?? this.#path, () => this.#handle.sync());
    if (draft === undefined) return;
    await attempt('rename', draft, () => rename(draft, this.#path));
    this.#complete = true;
    await using directory = await open(dirname(this.#path), constants.O_DIRECTORY);
    await attempt('sync', dirname(this.#path), () => directory.sync());
  }

  /** A draft that was not completed goes. */
  async [Symbol.asyncDispose](): Promise<void> {
    const draft = this.#draft;
    if (draft !== undefined && !this.#complete) {
      await attempt('remove', draft, () => unlink(draft));
    }
    await this.#handle.close();
  }
}

/** Where bytes can only follow each other: a pipe, a socket, a terminal, /dev/null. */
export class StreamOutput implements AsyncDisposable {
  readonly #put: (bytes: Uint8Array) => Promise<void>;
  readonly #close: () => Promise<void>;

  constructor(put: (bytes: Uint8Array) => Promise<void>, close: () => Promise<void>) {
    this.#put = put;
    this.#close = close;
  }

  /** Settles when there is room for more. */
  append(bytes: Uint8Array): Promise<void> {
    return this.#put(bytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

/** Opens a place for a disk; `-` is standard output. @throws SheepError `ERR_BUSY`, `ERR_IO` */
export async function openImageOutput(path: string): Promise<ImageOutput | StreamOutput> {
  if (path === '-') return standardOutput();
  const there = await statIfThere(path);
  if (there === undefined || there.isFile()) return openDraft(path, there);
  if (there.isDirectory()) {
    throw new SheepError('ERR_BAD_INPUT', `${path} is a directory; give a file in it`, { path });
  }
  const handle = await attempt('open', path, () => open(path, constants.O_WRONLY));
  if (there.isBlockDevice()) return new ImageOutput(handle, path, undefined);
  const put = async (bytes: Uint8Array): Promise<void> => {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await attempt('write', path, () => handle.write(bytes, done));
      done += bytesWritten;
    }
  };
  return new StreamOutput(put, () => handle.close());
}

async function openDraft(path: string, there: Stats | undefined): Promise<ImageOutput> {
  // The file behind a link is replaced, not the link.
  const real = there === undefined ? path : await attempt('find', path, () => realpath(path));
  const draft = `${real}.draft`;
  const flags = constants.O_RDWR | constants.O_CREAT;
  const handle = await attempt('open', draft, () => open(draft, flags, FILE_MODE));
  try {
    // Somebody else's export to this file ends before ours begins; what a killed one left is ours.
    await attempt('lock', draft, async () => lockNow(handle.fd));
    await attempt('empty', draft, () => handle.truncate(0));
    if (there !== undefined) await attempt('open', draft, () => handle.chmod(there.mode & 0o777));
  } catch (error) {
    await handle.close();
    throw error;
  }
  return new ImageOutput(handle, real, draft);
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    return attempt('find', path, () => Promise.reject(error));
  }
}

function standardOutput(): StreamOutput {
  const { stdout } = process;
  // Elsewhere a reader that has seen enough is no failure; here it has not got the whole disk.
  stdout.removeAllListeners('error');
  stdout.on('error', () => undefined); // told by the write that failed
  const put = (bytes: Uint8Array) =>
    attempt('write', 'standard output', () => {
      return new Promise<void>((resolve, reject) => {
        stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
      });
    });
  return new StreamOutput(put, async () => undefined);
}
