import { describeError, isFault, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import {
  encodedBytes,
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  type LogChange,
  type LogContents,
  readLog,
} from './coordinator-log.ts';
import { BATCH_BYTES_MAX, LOG_BYTES_MAX, LOG_RESERVE_BYTES } from './limits.ts';

export interface LogPlace {
  readonly disk: Disk;
  readonly path: string;
  /** 16 bytes; a log of another cluster is refused. */
  readonly clusterId: Uint8Array;
  readonly log: Log;
}

/** The log of the local coordinator on the disk: one writer, one record at a time. */
export class LogFile implements AsyncDisposable {
  readonly #place: LogPlace;
  #file: DiskFile;
  #end: number;
  #sizeBytes: number;

  private constructor(place: LogPlace, file: DiskFile, end: number, sizeBytes: number) {
    this.#place = place;
    this.#file = file;
    this.#end = end;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Reads the log and makes it ready for the next record: an unfinished one is cut off, and what
   * was read survives a power cut from now on.
   * @throws SheepError `ERR_NOT_FOUND`, `ERR_CORRUPT`, `ERR_VERSION`
   */
  static async open(place: LogPlace): Promise<{ file: LogFile; contents: LogContents }> {
    const { disk, path, log } = place;
    await using owned = new AsyncDisposableStack();
    const file = owned.use(await disk.open(path));
    const sizeBytes = await file.size();
    if (sizeBytes > LOG_BYTES_MAX) {
      throw new SheepError(
        'ERR_CORRUPT',
        `${path} has ${sizeBytes} bytes, more than a log can have; restore it from a backup`,
        { path, sizeBytes },
      );
    }
    const bytes = new Uint8Array(sizeBytes);
    const length = await file.read(0, bytes);
    const contents = readLog(bytes.subarray(0, length), path);
    refuseOther(contents.header.clusterId, place);
    const opened = new LogFile(place, file, contents.end, sizeBytes);
    if (contents.tail === 'torn') {
      log.event('warn', 'coordinator.tail-cut', { path, offset: contents.end, bytes: sizeBytes });
      await opened.#cut();
    }
    await opened.#reserve(0);
    // A daemon that was killed had perhaps not synced the last record, or not the log's name.
    await opened.#sync();
    await disk.syncDirectory(directoryOf(path));
    await removeIfThere(disk, draftOf(path));
    owned.move();
    return { file: opened, contents };
  }

  /** Reads the log as `open` does, and changes nothing. @throws SheepError as `open` */
  static async check(place: Pick<LogPlace, 'disk' | 'path' | 'clusterId'>): Promise<void> {
    await using file = await place.disk.open(place.path);
    await readAll(file, place);
  }

  /**
   * A new log that holds `base`; under its name only once it is whole and survives.
   * @throws SheepError `ERR_NO_SPACE`: the log that was there is still the one. After any other
   *         error nobody knows which of the two it is
   */
  static async create(
    place: LogPlace,
    base: readonly LogChange[],
    baseRevision: bigint,
  ): Promise<LogFile> {
    const { disk, path } = place;
    await using owned = new AsyncDisposableStack();
    const draft = draftOf(path);
    const file = owned.use(await disk.open(draft, { create: true, truncate: true }));
    let end = HEADER_BYTES;
    try {
      for (const changes of batches(base)) {
        const record = encodeRecord(changes);
        await file.write(end, record);
        end += record.length;
      }
      const header = { clusterId: place.clusterId, baseRevision, baseEnd: end };
      await file.write(0, encodeHeader(header));
      await file.sync();
    } catch (error) {
      await disk.remove(draft);
      throw error;
    }
    try {
      await disk.rename(draft, path);
      await disk.syncDirectory(directoryOf(path));
    } catch (cause) {
      throw new SheepError('ERR_IO', `${path} could not be replaced`, { path }, cause);
    }
    const made = new LogFile(place, file, end, end);
    await made.#reserve(0);
    owned.move();
    return made;
  }

  /** How large the log is, the reserve not counted. */
  get endBytes(): number {
    return this.#end;
  }

  /**
   * Settles once the record survives a power cut.
   * @throws SheepError `ERR_NO_SPACE`: nothing changed, a later one may succeed. After any other
   *         error nobody knows what the medium holds: this file must not be used again
   */
  async append(record: Uint8Array): Promise<void> {
    await this.#reserve(record.length);
    try {
      await this.#file.write(this.#end, record);
    } catch (error) {
      if (!isFault(error, 'ERR_NO_SPACE')) throw error;
      await this.#cut();
      await this.#sync();
      throw error;
    }
    await this.#sync();
    this.#end += record.length;
    this.#sizeBytes = Math.max(this.#sizeBytes, this.#end); // where nothing was reserved
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }

  /** Space behind the end for `length` bytes and then some more; a record may do without. */
  async #reserve(length: number): Promise<void> {
    const wanted = this.#end + length + LOG_RESERVE_BYTES - this.#sizeBytes;
    if (wanted <= LOG_RESERVE_BYTES / 2) return;
    try {
      await this.#file.zero(this.#sizeBytes, wanted);
      this.#sizeBytes += wanted;
    } catch (error) {
      if (!isFault(error, 'ERR_NO_SPACE')) throw error;
      const { log, path } = this.#place;
      log.event('warn', 'coordinator.no-reserve', { path, cause: describeError(error) });
      this.#sizeBytes = await this.#file.size();
    }
  }

  /** A failed sync is never `ERR_NO_SPACE`, whatever its cause: what was written may be lost. */
  async #sync(): Promise<void> {
    try {
      await this.#file.sync();
    } catch (cause) {
      const { path } = this.#place;
      throw new SheepError('ERR_IO', `${path} could not be synced`, { path }, cause);
    }
  }

  /** Behind the end there must be zeroes only, or a later tear would look like damage. */
  async #cut(): Promise<void> {
    await this.#file.truncate(this.#end);
    this.#sizeBytes = this.#end;
  }
}

async function readAll(
  file: DiskFile,
  place: Pick<LogPlace, 'path' | 'clusterId'>,
): Promise<LogContents> {
  const bytes = new Uint8Array(await file.size());
  const length = await file.read(0, bytes);
  const contents = readLog(bytes.subarray(0, length), place.path);
  refuseOther(contents.header.clusterId, place);
  return contents;
}

function* batches(changes: readonly LogChange[]): Generator<LogChange[]> {
  let batch: LogChange[] = [];
  let bytes = 0;
  for (const change of changes) {
    const more = encodedBytes(change.keys);
    if (batch.length > 0 && bytes + more > BATCH_BYTES_MAX) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(change);
    bytes += more;
  }
  if (batch.length > 0) yield batch;
}

function refuseOther(
  found: Uint8Array,
  { clusterId, path }: Pick<LogPlace, 'clusterId' | 'path'>,
): void {
  if (found.every((byte, index) => byte === clusterId[index])) return;
  throw new SheepError(
    'ERR_VERSION',
    `${path} is of the cluster ${hex(found)}, this store of the cluster ${hex(clusterId)}; ` +
      'put the file back that belongs here',
    { path, cluster: hex(found), expected: hex(clusterId) },
  );
}

async function removeIfThere(disk: Disk, path: string): Promise<void> {
  if (await disk.exists(path)) await disk.remove(path);
}

function draftOf(path: string): string {
  return `${path}.draft`;
}

function directoryOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 1));
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
