import { isDamage } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { DataNames } from './data-names.ts';
import { LEAF_ENTRIES } from './inode-format.ts';
import { type Entries, readLeaf, readRoot } from './inode-nodes.ts';
import {
  type DeadMember,
  type LeafReaders,
  orAbsent,
  pause,
  Readers,
  type Steps,
} from './readers.ts';
import type { VolumeRecord } from './record.ts';
import { Remains } from './remains.ts';

/** Objects that are asked for their sources between two pauses: each may have to be opened. */
const ASKED_AT_ONCE = 16;
/** Indexes at which it is worked out together what goes: each may have a thousand sources. */
const INDEXES_AT_ONCE = 256;

/** At some indexes of a leaf the ghosts whose objects may go. */
type Candidates = ReadonlyMap<number, Set<Vid>>;

/**
 * Removes of the *ghosts* below a VDI or snapshot that was deleted what it alone has needed of them.
 * Its death can have freed nothing else: only what its inode names, and what that inherits from, at
 * indexes where no live member names the same. So the other objects of the ghosts are not looked at,
 * however many there are. Comes before its own sweep, which takes away what tells all this.
 * @param dead    it was deleted just now: nothing of it is missing
 * @param ghosts  deleted before it, and swept since
 * @returns those of them that have to be swept, because they may be gone; all of them if nobody reads
 *          anything any more, or if damage keeps it from being told what is freed
 */
export async function removeFreed(
  dead: DeadMember,
  ghosts: readonly VolumeRecord[],
  steps: Steps = {},
): Promise<ReadonlySet<Vid>> {
  if (ghosts.length === 0) return new Set();
  const all = new Set(ghosts.map(({ vid }) => vid));
  const readers = new Readers(dead);
  if (!readers.some) return all;
  try {
    return await new Freed(dead, ghosts, readers, steps).run();
  } catch (error) {
    if (!isDamage(error)) throw error;
    return all;
  }
}

class Freed {
  readonly #dead: DeadMember;
  readonly #ghosts: ReadonlyMap<Vid, Remains>;
  readonly #names: DataNames;
  readonly #readers: Readers;
  readonly #steps: Steps;
  /** Ghosts of which a leaf came to nothing. */
  readonly #emptied = new Set<Vid>();

  constructor(dead: DeadMember, ghosts: readonly VolumeRecord[], readers: Readers, steps: Steps) {
    this.#dead = dead;
    this.#names = new DataNames(dead.record.family);
    const remains = (ghost: VolumeRecord) => new Remains(dead.store, ghost, steps, this.#names);
    this.#ghosts = new Map(ghosts.map((ghost) => [ghost.vid, remains(ghost)]));
    this.#readers = readers;
    this.#steps = steps;
  }

  async run(): Promise<ReadonlySet<Vid>> {
    // One that was given up while it was made may have no root, and named nothing.
    const root = await orAbsent(readRoot(this.#dead.store, this.#dead.record));
    for (const [leaf, owner] of root?.entries() ?? []) {
      if (owner !== 0) await this.#freeLeaf(leaf, owner);
    }
    return this.#emptied;
  }

  /** @param owner  of the leaf that the dead one has there */
  async #freeLeaf(leaf: number, owner: Vid): Promise<void> {
    const readers = await this.#readers.at(leaf);
    await pause(this.#steps);
    if (readers.owners.has(owner)) return;
    const { store, record } = this.#dead;
    const entries = await readLeaf(store, owner, record.family, leaf);
    const dropped = await droppedPlaces(readers, entries);
    const touched = new Set<Vid>([owner]);
    for (let at = 0; at < dropped.length; at += INDEXES_AT_ONCE) {
      const places = dropped.slice(at, at + INDEXES_AT_ONCE);
      const candidates = await this.#candidates(leaf, entries, places);
      for (const vid of await this.#remove(readers, candidates)) touched.add(vid);
    }
    for (const vid of touched) {
      const own = await this.#ghosts.get(vid)?.ownIn(leaf);
      if (own?.length === 0) this.#emptied.add(vid);
    }
  }

  /** Of which ghosts the dead one has read something at these places. */
  async #candidates(
    leaf: number,
    entries: Entries,
    places: readonly number[],
  ): Promise<Candidates> {
    const candidates = new Map<number, Set<Vid>>();
    for (const [count, place] of places.entries()) {
      const index = leaf * LEAF_ENTRIES + place;
      const named = entries[place] as Vid;
      const sources = await this.#dead.store.sources(this.#names.of(named, index));
      const ghosts = new Set([named, ...new Set(sources)].filter((vid) => this.#ghosts.has(vid)));
      if (ghosts.size > 0) candidates.set(index, ghosts);
      if ((count + 1) % ASKED_AT_ONCE === 0) await pause(this.#steps);
    }
    return candidates;
  }

  /** @returns ghosts that have less than before */
  async #remove(readers: LeafReaders, candidates: Candidates): Promise<Vid[]> {
    const seeker = {
      isOpen: (index: number) => candidates.get(index)?.size !== 0,
      isRead: (index: number, vids: Iterable<Vid> | undefined) => {
        if (vids === undefined) candidates.get(index)?.clear();
        else for (const vid of vids) candidates.get(index)?.delete(vid);
      },
    };
    await readers.tell(seeker, [...candidates.keys()], this.#steps);
    const freed = [...candidates].flatMap(([index, vids]) =>
      [...vids].map((vid) => ({ vid, index })),
    );
    if (freed.length === 0) return [];
    await this.#readers.flush();
    const touched: Vid[] = [];
    for (const [vid, ofGhost] of Map.groupBy(freed, (each) => each.vid)) {
      const ghost = this.#ghosts.get(vid) as Remains;
      const own = new Set(await ghost.ownIn(readers.leaf));
      const indexes = ofGhost.map(({ index }) => index).filter((index) => own.has(index));
      if (indexes.length === 0) continue;
      await ghost.removeObjects(indexes);
      await ghost.clearEntries(readers.leaf, indexes);
      touched.push(vid);
    }
    return touched;
  }
}

/** Places at which a leaf names something, and no live member names the same. */
async function droppedPlaces(readers: LeafReaders, entries: Entries): Promise<number[]> {
  let places = [...entries.keys()].filter((place) => entries[place] !== 0);
  for (const owner of readers.owners) {
    const others = await readers.entries(owner);
    places = places.filter((place) => others[place] !== entries[place]);
  }
  return places;
}
