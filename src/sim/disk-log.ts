import { assert } from '../base/assert.ts';
import type { FileNode } from './directory-state.ts';
import type { DiskTree, Effect, UnderWay } from './disk-tree.ts';
import type { SimDisk } from './sim-disk.ts';

/** An open file is named by the place in the log of what opened it. */
export type LogEntry =
  | { readonly step: 'now' | 'begin'; readonly effect: Effect<number> }
  /** `begun`: where in the log it began. */
  | { readonly step: 'end' | 'refused'; readonly begun: number };

/** What was asked of a disk and when it settled. */
export class DiskLog {
  readonly entries: LogEntry[] = [];

  /** An effect that took place at once. Answers with its place. */
  now(effect: Effect<number>): number {
    return this.entries.push({ step: 'now', effect }) - 1;
  }

  /** An effect that is under way until `act` settles. `place`: where it began. */
  async later<T>(
    effect: Effect<number>,
    act: () => Promise<T>,
  ): Promise<{ readonly place: number; readonly result: T }> {
    const begun = this.entries.push({ step: 'begin', effect }) - 1;
    try {
      const result = await act();
      this.entries.push({ step: 'end', begun });
      return { place: begun, result };
    } catch (error) {
      this.entries.push({ step: 'refused', begun });
      throw error;
    }
  }
}

/** A disk on which a log is done again, entry by entry. */
export class Replay {
  /** As of the entries so far, with what is under way. */
  readonly disk: SimDisk;
  length = 0;
  readonly #tree: DiskTree;
  readonly #files = new Map<number, FileNode>();
  readonly #underWay = new Map<number, UnderWay>();

  constructor(start: SimDisk) {
    this.disk = start.kill('everything');
    this.#tree = this.disk.tree;
  }

  step(entry: LogEntry): void {
    const place = this.length;
    this.length += 1;
    if ('effect' in entry) {
      const underWay = this.#tree.begin(this.#onThisDisk(entry.effect));
      this.#underWay.set(place, underWay);
      if (entry.step === 'now') this.#settle(place);
    } else if (entry.step === 'end') this.#settle(entry.begun);
    else this.#tree.fail(this.#take(entry.begun));
  }

  #settle(place: number): void {
    const opened = this.#tree.settle(this.#take(place));
    if (opened) this.#files.set(place, opened);
  }

  #take(place: number): UnderWay {
    const underWay = this.#underWay.get(place);
    assert(underWay !== undefined, 'what ends in the log has begun there');
    this.#underWay.delete(place);
    return underWay;
  }

  #onThisDisk(effect: Effect<number>): Effect<FileNode> {
    if (!('file' in effect)) return effect;
    const file = this.#files.get(effect.file);
    assert(file !== undefined, 'the log opens a file before it uses it');
    if (effect.kind === 'close') this.#files.delete(effect.file);
    return { ...effect, file };
  }
}
