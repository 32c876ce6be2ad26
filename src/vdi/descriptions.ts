import { SheepError } from '../base/errors.ts';
import type { Described } from '../contracts/block-device.ts';
import type { Call } from '../contracts/call.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { depthOf, describeObjects } from './changes.ts';
import type { DataNames } from './data-names.ts';
import { BITMAP_CONTEXT, DEPTH_CONTEXT } from './device-info.ts';
import { Inode } from './inode.ts';
import { levelsOf } from './levels.ts';
import { plainCall, type VolumeRecord } from './record.ts';
import { changesBetween, sourcesOf } from './state-changes.ts';

export interface DescribedRange extends Call {
  readonly at: number;
  readonly length: number;
  readonly countMax: number;
}

/** Answers for the metadata contexts of a volume: who holds its blocks, and what has changed. */
export class Descriptions {
  readonly #store: ObjectStore;
  readonly #inode: Inode;
  readonly #names: DataNames;
  /** The inode of the snapshot that was compared with last: the next call asks for it again. */
  #older: { readonly vid: number; readonly inode: Inode } | undefined;

  constructor(store: ObjectStore, inode: Inode, names: DataNames) {
    this.#store = store;
    this.#inode = inode;
    this.#names = names;
  }

  /**
   * @param ancestry  the ancestors of the record, asked for anew each time
   * @throws SheepError `ERR_NOT_FOUND` if the context speaks of no ancestor, or not any more
   */
  async describe(
    context: string,
    record: VolumeRecord,
    ancestry: () => Promise<readonly VolumeRecord[]>,
    asked: DescribedRange,
  ): Promise<Described[]> {
    const range = { ...asked, objectBytes: record.objectBytes };
    if (context === DEPTH_CONTEXT) {
      return this.#depths(levelsOf(record, await ancestry()), range);
    }
    const earlier = await this.#inodeOf(snapshotOf(context, record, await ancestry()));
    const inodes = { earlier, later: this.#inode };
    const look = changesBetween(this.#store, this.#names, inodes);
    const changes = await describeObjects(range, look);
    // If it was deleted meanwhile, what was read of it may already have been cleared.
    snapshotOf(context, record, await ancestry());
    return changes;
  }

  #depths(
    levels: ReadonlyMap<number, number>,
    range: DescribedRange & { readonly objectBytes: number },
  ): Promise<Described[]> {
    return describeObjects(range, async (index, end) => {
      const holeTo = this.#inode.skipHoles(index, end);
      if (holeTo > index) return { upTo: holeTo, flags: 0 };
      const sources = await sourcesOf(this.#store, this.#names, this.#inode, index);
      if (sources === undefined) return { upTo: index + 1, flags: 0 };
      return { flagsOf: (block) => depthOf(sources[block] ?? 0, levels) };
    });
  }

  async #inodeOf(snapshot: VolumeRecord): Promise<Inode> {
    if (this.#older?.vid === snapshot.vid) return this.#older.inode;
    const inode = await Inode.open(this.#store, snapshot, plainCall(snapshot));
    this.#older = { vid: snapshot.vid, inode };
    return inode;
  }
}

/** The snapshot that a context speaks of. */
function snapshotOf(
  context: string,
  record: VolumeRecord,
  ancestors: readonly VolumeRecord[],
): VolumeRecord {
  const tag = context.startsWith(BITMAP_CONTEXT) ? context.slice(BITMAP_CONTEXT.length) : undefined;
  const snapshot = ancestors.find((each) => each.state === 'snapshot' && each.tag === tag);
  if (snapshot !== undefined) return snapshot;
  throw new SheepError(
    'ERR_NOT_FOUND',
    `'${record.name}' cannot tell ${context}: there is no such snapshot below it`,
    { context },
  );
}
