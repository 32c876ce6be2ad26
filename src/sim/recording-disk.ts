import type { Permissions } from '../base/secret-file.ts';
import type { Disk, DiskFile, OpenMode } from '../contracts/disk.ts';
import { DiskLog, type LogEntry, Replay } from './disk-log.ts';
import { RecordingFile } from './recording-file.ts';
import type { Cuttable, SimDisk } from './sim-disk.ts';

/**
 * Hands everything on to another disk and keeps a log of what was asked and when it settled, from
 * which the disk can be had as it was at any moment. So one run, also on the disk of the machine,
 * gives as many cuts as its log has entries, times the states that each may leave.
 *
 * An operation that is refused is taken to have had no effect. Operations that are under way at the
 * same time are taken to have happened in the order in which they settled.
 */
export class RecordingDisk implements Disk {
  readonly #inner: Disk;
  readonly #start: SimDisk;
  readonly #log = new DiskLog();
  #replay: Replay;

  /** `start`: what is on `inner` at this moment, such as one empty directory. */
  constructor(inner: Disk, start: SimDisk) {
    this.#inner = inner;
    this.#start = start;
    this.#replay = new Replay(start);
  }

  /** Everything so far; its length names this moment. */
  get log(): readonly LogEntry[] {
    return this.#log.entries;
  }

  /**
   * The disk as it was when the log had `length` entries; valid until the next call. Cheap in
   * ascending order.
   */
  stateAfter(length: number): Cuttable {
    if (length < this.#replay.length) this.#replay = new Replay(this.#start);
    for (const entry of this.log.slice(this.#replay.length, length)) this.#replay.step(entry);
    return this.#replay.disk;
  }

  async open(path: string, mode: OpenMode = {}): Promise<DiskFile> {
    const effect = { kind: 'open', path, mode } as const;
    const { place, result } = await this.#log.later(effect, () => this.#inner.open(path, mode));
    return new RecordingFile(result, this.#log, place);
  }
  openCachedNow(path: string): DiskFile | undefined {
    const file = this.#inner.openCachedNow(path);
    if (file === undefined) return undefined;
    return new RecordingFile(file, this.#log, this.#log.now({ kind: 'open', path, mode: {} }));
  }
  async rename(from: string, to: string): Promise<void> {
    await this.#log.later({ kind: 'rename', from, to }, () => this.#inner.rename(from, to));
  }
  async remove(path: string): Promise<void> {
    await this.#log.later({ kind: 'remove', path }, () => this.#inner.remove(path));
  }
  async makeDirectory(path: string): Promise<void> {
    await this.#log.later({ kind: 'makeDirectory', path }, () => this.#inner.makeDirectory(path));
  }
  async syncDirectory(path: string): Promise<void> {
    await this.#log.later({ kind: 'syncDirectory', path }, () => this.#inner.syncDirectory(path));
  }
  async syncAll(path: string): Promise<void> {
    await this.#log.later({ kind: 'syncAll', path }, () => this.#inner.syncAll(path));
  }
  /** Of a lock, a cut can leave the file. */
  async lock(path: string): Promise<AsyncDisposable> {
    const effect = { kind: 'open', path, mode: { create: true } } as const;
    const { place, result } = await this.#log.later(effect, () => this.#inner.lock(path));
    const held = new AsyncDisposableStack();
    held.use(result);
    held.defer(() => void this.#log.now({ kind: 'close', file: place }));
    return held;
  }
  list(path: string): Promise<string[]> {
    return this.#inner.list(path);
  }
  permissions(path: string): Promise<Permissions> {
    return this.#inner.permissions(path);
  }
  exists(path: string): Promise<boolean> {
    return this.#inner.exists(path);
  }
  space(path: string): Promise<{ totalBytes: number; freeBytes: number }> {
    return this.#inner.space(path);
  }
  bootId(): Promise<string> {
    return this.#inner.bootId();
  }
}
