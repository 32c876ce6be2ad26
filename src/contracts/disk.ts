import type { Permissions } from '../base/secret-file.ts';

/**
 * The disk as we use it: files, their names, and what survives a power cut.
 * Suite: test/contracts/disk.ts, passed by host/node-disk.ts, sim/sim-disk.ts and
 * sim/recording-disk.ts.
 *
 * What survives (the model that sim-disk keeps and that every part above may rely on, no more):
 * - the bytes of a file survive once `sync` has settled that began after they were written; before
 *   that each aligned 4 KiB block falls back, on its own, to any state it had since the last sync;
 *   so do the size and punched or reserved ranges;
 * - a name (created, renamed, removed) survives once `syncDirectory` of its directory has settled
 *   that began after it; before that each name falls back on its own; a rename within one
 *   directory shows the old name or the new one, never none and never both;
 * - `syncAll` is all of both;
 * - a process that is killed loses none of this, only what it had not yet handed over.
 *
 * Paths are absolute or relative to the process; directories are made with `makeDirectory`.
 * Refusals of the operating system are SheepErrors: `ERR_NOT_FOUND` (no such name), `ERR_EXISTS`,
 * `ERR_NO_SPACE`, `ERR_BUSY` (a lock that another process holds), everything else `ERR_IO`.
 *
 * Names that end in `Now` never wait for the medium and may therefore be called on the data path.
 */
export interface Disk {
  /** Opens for reading and writing. `create`: makes it if it is not there; `exclusive`, which goes
   * with it: refuses if it is; `truncate`: empties it. */
  open(path: string, mode?: OpenMode): Promise<DiskFile>;
  /**
   * Opens a file for reading and writing, at once, if the kernel knows its name without asking the
   * medium. Undefined says nothing, not even that it is not there: `open` tells.
   */
  openCachedNow(path: string): DiskFile | undefined;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes it with its parents; one that is there already is no error. */
  makeDirectory(path: string): Promise<void>;
  /** Names in a directory, sorted; [] if it does not exist. */
  list(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  /** Of a file; one that was made here is its user's alone. @throws `ERR_NOT_FOUND` */
  permissions(path: string): Promise<Permissions>;
  /** Names made, renamed or removed in it so far survive. */
  syncDirectory(path: string): Promise<void>;
  /** Everything on the file system that holds `path` survives (syncfs). */
  syncAll(path: string): Promise<void>;
  /** Held until it is disposed or the process ends, however it ends. @throws `ERR_BUSY` */
  lock(path: string): Promise<AsyncDisposable>;
  /** Bytes of the file system that holds `path`. */
  space(path: string): Promise<{ totalBytes: number; freeBytes: number }>;
  /** Changes whenever the machine starts anew: page caches of an earlier boot are gone. */
  bootId(): Promise<string>;
}

export interface OpenMode {
  /** To be read alone, also where nobody may write; goes with nothing else. */
  readonly readOnly?: boolean;
  readonly create?: boolean;
  readonly exclusive?: boolean;
  readonly truncate?: boolean;
}

/**
 * One open file. Offsets and lengths in bytes, and 0 bytes are nothing to do; reads beyond the end
 * are short. Memory is lent until the call settles.
 */
export interface DiskFile extends AsyncDisposable {
  /**
   * Fills `into` from the page cache and returns how many bytes there were (short only at the end
   * of the file), or -1 if any of them would have to come from the medium: then use `read`. File
   * systems that cannot tell (tmpfs, overlayfs) always answer -1.
   */
  readNow(at: number, into: Uint8Array): number;
  read(at: number, into: Uint8Array): Promise<number>;
  /** Into the page cache, all of it; the caller bounds how much is not yet on the medium. */
  writeNow(at: number, from: Uint8Array): void;
  write(at: number, from: Uint8Array): Promise<void>;
  /**
   * Data, size and allocation survive (fdatasync). The name does not: see `syncDirectory`. Once it
   * has failed it fails for good: the system may have dropped what it could not write, and would
   * say yes the next time. Only what is written anew through another handle can still be synced.
   */
  sync(): Promise<void>;
  /**
   * These bytes may begin their way to the medium, because a sync will follow soon; promises nothing
   * and is told no failure. The caller bounds how much has begun and is not yet synced.
   */
  beginSyncNow(at: number, length: number): void;
  /** Gives the space back; reads as zero. The size stays. */
  punch(at: number, length: number): Promise<void>;
  /** Reserves the space and reads as zero. The size stays, or grows to `at + length`. */
  zero(at: number, length: number): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  size(): Promise<number>;
  /** What is under way ends as if it were open; disposing waits for that. Closed is closed: to close
   * again does nothing, all else is a broken belief. */
  closeNow(): void;
}
