import { type DeadMember, isBeingCopied, pause, Readers, type Steps } from './readers.ts';
import { Remains } from './remains.ts';

/** Leaves that are counted between two pauses. */
const LEAVES_AT_ONCE = 16;

export interface SweepOptions extends Steps {
  /** Objects of the dead VDI that were looked at, of so many. */
  readonly progress?: (done: number, total: number) => void;
}

/**
 * Removes the objects of a deleted VDI or snapshot that nobody of its family needs, and its inode
 * once none is left. Can be cut short anywhere and run again.
 *
 * References to what is being deleted only ever shrink, so what a look finds unneeded stays so, once
 * the look itself is stable.
 * @returns true if nothing is left
 */
export async function sweep(dead: DeadMember, options: SweepOptions = {}): Promise<boolean> {
  if (isBeingCopied(dead.record, dead.family)) return false;
  return new Sweep(dead, options).run();
}

class Sweep {
  readonly #dead: DeadMember;
  readonly #remains: Remains;
  readonly #readers: Readers;
  readonly #options: SweepOptions;
  #done = 0;
  #total = 0;

  constructor(dead: DeadMember, options: SweepOptions) {
    this.#dead = dead;
    this.#remains = new Remains(dead.store, dead.record, options);
    this.#readers = new Readers(dead);
    this.#options = options;
  }

  async run(): Promise<boolean> {
    const leaves = await this.#remains.leaves();
    await this.#remains.removeUnsettled(new Set(leaves));
    for (const [count, leaf] of leaves.entries()) {
      this.#total += (await this.#remains.ownIn(leaf)).length;
      if ((count + 1) % LEAVES_AT_ONCE === 0) await pause(this.#options);
    }
    let kept = 0;
    for (const leaf of leaves) {
      kept += await this.#sweepLeaf(leaf);
      await pause(this.#options);
    }
    if (kept > 0) return false;
    await this.#remains.removeRoot();
    return true;
  }

  /** @returns how many objects had to stay, or 1 if only the leaf had to */
  async #sweepLeaf(leaf: number): Promise<number> {
    const own = await this.#remains.ownIn(leaf);
    const { vid } = this.#dead.record;
    const readers = await this.#readers.at(leaf);
    if (readers.owners.has(vid)) {
      this.#progress(own.length);
      return Math.max(own.length, 1);
    }
    const needed = new Set<number>();
    const seeker = {
      isOpen: (index: number) => !needed.has(index),
      isRead: (index: number, vids: { includes(vid: number): boolean } | undefined) => {
        if (vids === undefined || vids.includes(vid)) needed.add(index);
      },
    };
    await readers.tell(seeker, own, this.#options);
    const unneeded = own.filter((index) => !needed.has(index));
    if (unneeded.length > 0 || needed.size === 0) await this.#readers.flush();
    this.#progress(needed.size);
    await this.#remains.removeObjects(unneeded, (count) => this.#progress(count));
    if (needed.size === 0) await this.#remains.removeLeaf(leaf);
    else if (unneeded.length > 0) await this.#remains.clearEntries(leaf, unneeded);
    return needed.size;
  }

  #progress(more: number): void {
    this.#done += more;
    this.#options.progress?.(this.#done, this.#total);
  }
}
