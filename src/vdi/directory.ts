import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import type { Coordinator } from '../contracts/coordinator.ts';
import type { Clock } from '../contracts/seams.ts';
import { canonicalRules, DEFAULT_RULES } from './access-rules.ts';
import { Arrivals } from './arrivals.ts';
import { Catalog, type Found, nameKey, recordKey, tagKey, written } from './catalog.ts';
import { Freezing, type Frozen } from './freezing.ts';
import {
  checkObjectCount,
  checkVdiSize,
  parseTag,
  parseVdiName,
  type SnapshotRef,
} from './names.ts';
import { Newcomers } from './newcomers.ts';
import { isLeaving, type VolumeRecord } from './record.ts';

const ATTACH_EPOCH_MAX = 2 ** 32 - 1;

/** What is asked for in `create`. */
export interface NewVolume {
  readonly name: string;
  /** Whole blocks: see `parseVdiSize`. */
  readonly sizeBytes: number;
  readonly objectBytes: number;
  /** Who may attach it: access-rules.ts; absent: the default. */
  readonly allow?: readonly string[];
}

/** Writes the disk of a record that has no name yet, of the snapshot it is grown from. */
export type MakeDisk = (record: VolumeRecord, source: VolumeRecord) => Promise<void>;

/**
 * Which VDIs and snapshots there are, and every change of that. Each change is one compare-and-set,
 * so that several sheep may change the directory at once and a stop at any moment leaves none of it
 * half done: what was begun and got no name is given up by `abandonUnfinished`. A vid is never given
 * twice.
 */
export class VdiDirectory extends Catalog {
  readonly #coordinator: Coordinator;
  readonly #newcomers: Newcomers;
  /** VDIs and snapshots that come together, from elsewhere. */
  readonly arrivals: Arrivals;
  readonly freezing: Freezing;

  constructor(coordinator: Coordinator, clock: Clock) {
    super(coordinator);
    this.#coordinator = coordinator;
    this.#newcomers = new Newcomers(this, coordinator, clock);
    this.arrivals = new Arrivals(this, coordinator, this.#newcomers);
    this.freezing = new Freezing(this, this.#newcomers);
  }

  /**
   * A new VDI. It gets its name only once `make` has settled, so that a name always has a disk.
   * @param make  writes the empty disk; what it leaves unfinished is in `deletions` later
   * @throws SheepError `ERR_EXISTS` if the name is in use, `ERR_BAD_INPUT` if it can be none,
   *         `ERR_LIMIT` once every vid has been given; or what `make` throws
   */
  async create(
    wanted: NewVolume,
    make: (record: VolumeRecord) => Promise<void>,
  ): Promise<VolumeRecord> {
    const name = parseVdiName(wanted.name);
    checkObjectCount(wanted.sizeBytes, wanted.objectBytes);
    const allow = canonicalRules(wanted.allow ?? DEFAULT_RULES);
    await this.#newcomers.refuseTaken(name);
    const record = await this.#newcomers.begin({ ...wanted, name, allow });
    return this.#newcomers.orAbandon(record, async () => {
      await make(record);
      return this.#newcomers.giveName(record);
    });
  }

  /**
   * A new VDI that begins as the snapshot is.
   * @throws SheepError as `create`, `ERR_NOT_FOUND` if there is no such snapshot
   */
  async clone(source: SnapshotRef, target: string, make: MakeDisk): Promise<VolumeRecord> {
    const name = parseVdiName(target);
    await this.#newcomers.refuseTaken(name);
    const from = await this.getTagged(source);
    const { sizeBytes, objectBytes } = from.record;
    const allow = await this.rulesOf(from.record);
    const record = await this.#newcomers.begin({ name, sizeBytes, objectBytes, allow }, from);
    return this.#newcomers.orAbandon(record, async () => {
      await make(record, from.record);
      return this.#newcomers.giveName(record);
    });
  }

  /**
   * The working VDI stays behind as a snapshot, and a child of it takes its name.
   * @param make  writes the child's disk, and calls `commit` in the moment that the snapshot shows
   * @returns the snapshot
   * @throws SheepError `ERR_EXISTS` if the tag is in use, `ERR_BAD_INPUT` if it can be none,
   *         `ERR_NOT_FOUND`; or what `make` throws
   */
  async snapshot(
    name: string,
    tag: string,
    make: (child: VolumeRecord, commit: () => Promise<Frozen>) => Promise<void>,
  ): Promise<VolumeRecord> {
    parseTag(tag);
    await this.getNamed(name);
    await this.#newcomers.refuseTag(name, tag);
    const begun = await this.freezing.begin(name);
    const { child } = begun;
    return this.#newcomers.orAbandon(child, async () => {
      let done: Frozen | undefined;
      await make(child, async () => {
        done = await this.freezing.commit(begun, { tag, frozenMs: child.createdMs });
        return done;
      });
      assert(done !== undefined, 'a snapshot that was made was committed');
      return done.frozen;
    });
  }

  /**
   * The working VDI, if there is one, is deleted, and a child of the snapshot takes its name.
   * @returns the child, and what it has replaced
   * @throws SheepError `ERR_NOT_FOUND` if there is no such snapshot; or what `make` throws
   */
  async rollback(
    name: string,
    snapshot: string,
    make: MakeDisk,
  ): Promise<{ record: VolumeRecord; replaced?: VolumeRecord }> {
    const from = await this.getTagged({ name, snapshot });
    const record = await this.#newcomers.begin(from.record, from);
    return this.#newcomers.orAbandon(record, async () => {
      await make(record, from.record);
      for (;;) {
        const old = await this.findNamed(name);
        // Only its data is what it was: who may attach it stays as it is.
        const { createdMs, allow } = old?.record ?? record;
        const replaced = old && ({ ...old.record, state: 'deleting' } as const);
        const swaps = [this.#newcomers.naming(record, old?.keyRevision ?? 0n)];
        if (old && replaced) swaps.push(written(replaced, old.revision));
        const ready = await this.#newcomers.setReady({ ...record, createdMs, allow }, swaps);
        if (ready) return { record: ready, ...(replaced && { replaced }) };
      }
    });
  }

  /**
   * Makes the caller its owner: the attach epoch grows by one, and whoever writes with the one
   * before is refused from then on.
   * @throws SheepError `ERR_NOT_FOUND`
   */
  attach(name: string): Promise<VolumeRecord> {
    return this.#change(name, (record) => {
      if (record.attachEpoch < ATTACH_EPOCH_MAX) {
        return { ...record, attachEpoch: record.attachEpoch + 1 };
      }
      throw new SheepError('ERR_LIMIT', `the VDI '${name}' cannot be attached once more`, {
        attachEpoch: record.attachEpoch,
      });
    });
  }

  /**
   * Its size is another one from now on. If it is smaller, what lies behind its end has to be
   * cleared away before it is read or grown: see `shrunkFromBytes`, and then `endCleared`.
   * @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT`
   */
  resize(name: string, sizeBytes: number): Promise<VolumeRecord> {
    checkVdiSize(sizeBytes);
    return this.#change(name, (record) => {
      checkObjectCount(sizeBytes, record.objectBytes);
      assert(record.shrunkFromBytes === 0 || sizeBytes <= record.sizeBytes, 'it is clear to grow');
      const shrunkFromBytes =
        sizeBytes < record.sizeBytes ? Math.max(record.sizeBytes, record.shrunkFromBytes) : 0;
      return { ...record, sizeBytes, shrunkFromBytes: shrunkFromBytes || record.shrunkFromBytes };
    });
  }

  /**
   * From now on these may attach it and its snapshots.
   * @param allow  rules of access-rules.ts
   * @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT`
   */
  allow(name: string, allow: readonly string[]): Promise<VolumeRecord> {
    const rules = canonicalRules(allow);
    return this.#change(name, (record) => ({ ...record, allow: rules }));
  }

  /** Nothing is left behind its end. */
  endCleared(name: string): Promise<VolumeRecord> {
    return this.#change(name, (record) => ({ ...record, shrunkFromBytes: 0 }));
  }

  /**
   * Takes the name away; its snapshots stay. From here on the deletion can only be finished: remove
   * what nobody of the family needs, and `forget` it once that is all. What a crash left in between
   * stands in `deletions`.
   * @throws SheepError `ERR_NOT_FOUND`
   */
  delete(name: string): Promise<VolumeRecord> {
    return this.#delete(nameKey(name), async () => {
      const found = await this.getNamed(name);
      await this.#leaveRules(found.record);
      return found;
    });
  }

  /** The same for a snapshot and its tag. @throws SheepError `ERR_NOT_FOUND` */
  async deleteSnapshot(ref: SnapshotRef): Promise<VolumeRecord> {
    const { name, tag } = await this.snapshotInfo(ref);
    return this.#delete(tagKey(name, tag), () => this.getTagged(ref));
  }

  /**
   * What is held is needed by no snapshot of the cluster any more: from here on it is as what was
   * deleted. Undefined if it is not held.
   */
  async release(vid: Vid): Promise<VolumeRecord | undefined> {
    for (;;) {
      const found = await this.read(vid);
      if (found?.record.state !== 'held') return undefined;
      const released: VolumeRecord = { ...found.record, state: 'released' };
      if (await this.#coordinator.swap([written(released, found.revision)])) return released;
    }
  }

  /** What was deleted or released and may still have objects, oldest first. */
  async deletions(): Promise<VolumeRecord[]> {
    return (await this.all()).filter(isLeaving);
  }

  /** Gives up what a crash left half made, and is not decided. Only while nobody makes anything. */
  async abandonUnfinished(): Promise<void> {
    await this.arrivals.finishLeft();
    for (const { state, vid } of await this.all())
      if (state === 'making') await this.#newcomers.abandon(vid);
  }

  /**
   * The end of a deletion: no object of this vid is left. What was grown from it has its parent as a
   * parent from now on. Once more is no error.
   */
  async forget(vid: Vid): Promise<void> {
    for (;;) {
      const found = await this.read(vid);
      if (found === undefined) return;
      const { record, revision } = found;
      assert(isLeaving(record), 'only the deleted is forgotten');
      const children = (await this.family(record.family)).filter(({ parent }) => parent === vid);
      for (const child of children) await this.#adopt(child.vid, record);
      const key = recordKey(vid);
      if (children.length === 0 && (await this.#coordinator.swap([{ key, revision }]))) return;
    }
  }

  async #adopt(vid: Vid, { vid: from, parent }: VolumeRecord): Promise<void> {
    const child = await this.read(vid);
    if (child?.record.parent !== from) return;
    await this.#coordinator.swap([written({ ...child.record, parent }, child.revision)]);
  }

  async #delete(key: string, find: () => Promise<Found>): Promise<VolumeRecord> {
    for (;;) {
      const { record, revision, keyRevision } = await find();
      const deleting: VolumeRecord = { ...record, state: 'deleting' };
      const swaps = [{ key, revision: keyRevision }, written(deleting, revision)];
      if (await this.#coordinator.swap(swaps)) return deleting;
    }
  }

  /**
   * Its snapshots get the rules that they follow now for their own: without them a deletion would
   * open what was closed. Until it is gone these count for nothing, and its own record must not
   * change meanwhile: so it is one change for whoever asks.
   */
  async #leaveRules({ name, allow }: VolumeRecord): Promise<void> {
    for (const { vid } of await this.snapshots(name)) {
      for (;;) {
        const found = await this.read(vid);
        if (found?.record.state !== 'snapshot' || sameRules(found.record.allow, allow)) break;
        const swap = written({ ...found.record, allow }, found.revision);
        if (await this.#coordinator.swap([swap])) break;
      }
    }
  }

  /** One change of the record of a working VDI, done again if somebody else was faster. */
  async #change(
    name: string,
    change: (record: VolumeRecord) => VolumeRecord,
  ): Promise<VolumeRecord> {
    for (;;) {
      const { record, revision } = await this.getNamed(name);
      const changed = change(record);
      if (await this.#coordinator.swap([written(changed, revision)])) return changed;
    }
  }
}

function sameRules(some: readonly string[], others: readonly string[]): boolean {
  return some.join() === others.join(); // no rule contains a comma
}
