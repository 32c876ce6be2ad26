import { SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Disk } from '../../contracts/disk.ts';
import { encodeSnapLine, readSnapLog, type SnapLine } from './snap-log-format.ts';

/** The files of the logs: snaps that people asked for, and those of epochs. */
export const SNAP_LOGS = { user: 'user_snap', sys: 'sys_snap' } as const;
export type SnapLogName = keyof typeof SNAP_LOGS;

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

  /** @throws SheepError `ERR_VERSION` for lines of another version or store */
  async load(): Promise<void> {
    const { disk, path, storeId, log } = this.#place;
    await using file = await disk.open(path);
    const bytes = new Uint8Array(await file.size());
    const length = await file.read(0, bytes);
    const { lines, end, tail } = readSnapLog(bytes.subarray(0, length), storeId, path);
    if (tail === 'damaged' && !this.isDamaged) {
      log.event('warn', 'snapshots.log-damaged', { path, at: end });
    }
    [this.#lines, this.#end, this.#tail] = [lines, end, tail];
  }

  /** Snaps that no later line cancels, in the order of their lines. */
  live(): SnapLine[] {
    const live = new Map<string, SnapLine>();
    for (const line of this.#lines) {
      const key = Buffer.from(line.name).toString('latin1');
      if (line.kind === 'snap') live.set(key, line);
      else live.delete(key);
    }
    return [...live.values()];
  }

  /** Cuts what a stop left of an unfinished line. Whoever calls this holds the lock. */
  async mend(): Promise<void> {
    if (this.#tail === 'damaged') return;
    const { disk, path } = this.#place;
    await using file = await disk.open(path);
    if (this.#tail === 'torn') await file.truncate(this.#end);
    await file.sync(); // what was read may be of a process that was killed before its own sync
    this.#tail = 'clean';
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
}
