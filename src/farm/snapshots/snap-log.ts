import { isFault, SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Disk } from '../../contracts/disk.ts';
import { replaceFile } from '../whole-file.ts';
import { encodeSnapLine, readSnapLog, type SnapLine } from './snap-log-format.ts';

export interface SnapLogPlace {
  readonly disk: Disk;
  readonly path: string;
  readonly storeId: Uint8Array;
  readonly log: Log;
}

/** One of the two logs: which snaps there are, a line for each, and a line for each that went. */
export class SnapLog {
  readonly #place: SnapLogPlace;
  #lines: readonly SnapLine[] = [];
  #end = 0;
  #tail: 'clean' | 'torn' | 'damaged' = 'clean';

  constructor(place: SnapLogPlace) {
    this.#place = place;
  }

  /** Some of it cannot be read: snaps may be there that it does not name. */
  get isDamaged(): boolean {
    return this.#tail === 'damaged';
  }

  get path(): string {
    return this.#place.path;
  }

  /**
   * A log that is not there is a damaged one.
   * @throws SheepError `ERR_VERSION` for lines of another version or store
   */
  async load(): Promise<void> {
    const { path, storeId, log } = this.#place;
    const bytes = await this.#read();
    const { lines, end, tail } =
      bytes === undefined
        ? { lines: [], end: 0, tail: 'damaged' as const }
        : readSnapLog(bytes, storeId, path);
    if (tail === 'damaged' && !this.isDamaged) log.event('warn', 'snapshots.log-damaged', { path });
    [this.#lines, this.#end, this.#tail] = [lines, end, tail];
  }

  /** Whether any line that can be read is of this snap. */
  mentions(name: Uint8Array): boolean {
    return this.#lines.some((line) => Buffer.compare(line.name, name) === 0);
  }

  /** A snap whose line may have been lost with what is damaged. */
  adopt(line: SnapLine): void {
    this.#lines = [...this.#lines, line];
  }

  /** Snaps that no later line cancels, in the order of their lines. */
  live(): SnapLine[] {
    const live = new Map<string, SnapLine>();
    for (const line of this.#lines) {
      if (line.kind === 'snap') live.set(keyOf(line.name), line);
      else live.delete(keyOf(line.name));
    }
    return [...live.values()];
  }

  /**
   * Cuts what a stop left of an unfinished line; a damaged log is written anew, of what could be read
   * and what was adopted. Whoever calls this holds the lock.
   */
  async mend(): Promise<void> {
    if (this.#tail === 'damaged') return this.#replace(this.#lines);
    const { disk, path } = this.#place;
    await using file = await disk.open(path);
    if (this.#tail === 'torn') await file.truncate(this.#end);
    await file.sync(); // what was read may be of a process that was killed before its own sync
    this.#tail = 'clean';
  }

  /** Leaves out what is cancelled, unless its snap object is still there. */
  async shorten(isThere: (name: Uint8Array) => boolean): Promise<void> {
    const live = new Set(this.live().map(({ name }) => keyOf(name)));
    const needed = this.#lines.filter(({ name }) => live.has(keyOf(name)) || isThere(name));
    if (needed.length < this.#lines.length) await this.#replace(needed);
  }

  /** Settles when the line survives a power cut. @throws SheepError `ERR_NO_SPACE`: it is not there */
  async append(line: SnapLine): Promise<void> {
    const { disk, path, storeId } = this.#place;
    const bytes = encodeSnapLine(line, storeId);
    await using file = await disk.open(path);
    try {
      await file.write(this.#end, bytes);
    } catch (error) {
      await file.truncate(this.#end);
      throw error;
    }
    try {
      await file.sync();
    } catch (cause) {
      throw new SheepError('ERR_IO', `${path} could not be synced`, { path }, cause);
    }
    this.#lines = [...this.#lines, line];
    this.#end += bytes.length;
  }

  async #read(): Promise<Uint8Array | undefined> {
    const { disk, path } = this.#place;
    try {
      await using file = await disk.open(path, { readOnly: true });
      const bytes = new Uint8Array(await file.size());
      return bytes.subarray(0, await file.read(0, bytes));
    } catch (error) {
      if (isFault(error, 'ERR_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** The whole log at once: whoever looks finds the old one or the new one. */
  async #replace(lines: readonly SnapLine[]): Promise<void> {
    const { disk, path, storeId } = this.#place;
    const bytes = Buffer.concat(lines.map((line) => encodeSnapLine(line, storeId)));
    await replaceFile(disk, path, bytes);
    [this.#lines, this.#end, this.#tail] = [lines, bytes.length, 'clean'];
  }
}

function keyOf(name: Uint8Array): string {
  return Buffer.from(name).toString('latin1');
}
