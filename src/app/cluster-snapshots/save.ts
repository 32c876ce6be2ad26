import { describeError, isDamage, SheepError } from '../../base/errors.ts';
import type { Vid } from '../../base/ids.ts';
import { anySignal } from '../../base/signals.ts';
import type { Call } from '../../contracts/call.ts';
import { captureDisk } from '../../farm/snapshots/capture.ts';
import type { Snap, SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../farm/snapshots/store.ts';
import { parseTag } from '../../vdi/names.ts';
import { openSnapshot } from '../../vdi/open-volume.ts';
import { exportName, type VolumeRecord } from '../../vdi/record.ts';
import { changedRanges } from '../../vdi/state-changes.ts';
import type { FrozenCluster } from '../freeze-all.ts';
import { namedFailure } from '../named-failure.ts';
import { type Base, isRootSound, KnownDisks } from './bases.ts';
import { releaseHeld } from './held.ts';
import type { WritingParts } from './parts.ts';
import { Room } from './room.ts';

/** The only epoch there is on one machine. */
const LOCAL_EPOCH = 1;

/** In bytes; of disks but for what is stored of new content. */
export interface SaveCounts {
  readonly readBytes: number;
  /** Of what was read: content that was not in the store, and content that was. The rest is zeroes. */
  readonly newBytes: number;
  readonly sharedBytes: number;
  readonly storedBytes: number;
}

/** How far a save is. */
export interface SaveProgress extends SaveCounts {
  /** Up to where the disks are done, one behind the other, and how long they are together. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** `freezing` until the instant: afterwards nobody waits for it any more. */
  readonly phase: 'freezing' | 'storing';
  /** VDIs and snapshots that are done, of so many. */
  readonly disks: number;
  readonly totalDisks: number;
  /** `NAME` or `NAME@TAG` that is being stored. */
  readonly disk?: string;
}

export interface Saved extends SaveCounts {
  readonly entry: SnapEntry;
  readonly snap: Snap;
  /** How many of its disks were in the store as they are. */
  readonly reusedDisks: number;
}

/**
 * Stores what the whole cluster holds in one instant: every VDI and every snapshot. It is in the store
 * once this settles, and survives a power cut from then on; if it fails, nothing of it is, and what
 * was stored is shared by the next one, or collected. The writer is of no use after a failure.
 * @throws SheepError `ERR_BAD_INPUT`, `ERR_EXISTS` for the tag, before anything is done; what the
 *         VDIs or the store throw, with the VDI named
 */
export async function saveSnapshot(
  parts: WritingParts,
  tag: string,
  call: Call,
  progress: (done: SaveProgress) => void,
): Promise<Saved> {
  parseTag(tag);
  refuseTaken(parts.store, tag);
  try {
    const known = await KnownDisks.of(parts.store, parts.clusterId);
    const nothing = { ...NOTHING, doneBytes: 0, totalBytes: 0, disks: 0, totalDisks: 0 };
    progress({ ...nothing, phase: 'freezing' });
    using frozen = await parts.volumes.freezeAll(parts.clock, call);
    return await new Save(parts, frozen, known, progress).run(tag, call);
  } finally {
    await releaseHeld(parts);
  }
}

const NOTHING: SaveCounts = { readBytes: 0, newBytes: 0, sharedBytes: 0, storedBytes: 0 };

function refuseTaken(store: SnapshotStore, tag: string): void {
  if (!store.snaps('user').some((snap) => snap.tag === tag)) return;
  throw new SheepError(
    'ERR_EXISTS',
    `there is a snapshot '${tag}' of the cluster already; choose another tag, or delete that one ` +
      `with 'collie cluster snapshot delete ${tag}'`,
    { tag },
  );
}

/** What a snap says of a disk, but for its content. */
interface Subject {
  readonly record: VolumeRecord;
  readonly facts: Omit<SnapDisk, 'root'>;
}

class Save {
  readonly #parts: WritingParts;
  readonly #frozen: FrozenCluster;
  readonly #known: KnownDisks;
  readonly #room: Room;
  readonly #progress: (done: SaveProgress) => void;
  /** Of the disks that are done. */
  #counts = NOTHING;
  #disks = 0;
  #totalDisks = 0;
  #doneBytes = 0;
  #totalBytes = 0;
  #reusedDisks = 0;

  constructor(
    parts: WritingParts,
    frozen: FrozenCluster,
    known: KnownDisks,
    progress: (done: SaveProgress) => void,
  ) {
    this.#parts = parts;
    this.#frozen = frozen;
    this.#known = known;
    this.#room = new Room(parts.store);
    this.#progress = progress;
  }

  async run(tag: string, call: Call): Promise<Saved> {
    const { directory, writer, nodes } = this.#parts;
    const all = await directory.all();
    const byVid = new Map(all.map((record) => [record.vid, record]));
    const subjects = this.#subjects(byVid);
    this.#totalDisks = subjects.length;
    this.#totalBytes = subjects.reduce((total, { facts }) => total + facts.sizeBytes, 0);
    const disks: SnapDisk[] = [];
    for (const subject of subjects) {
      this.#tell(subject, NOTHING);
      const disk = await this.#store(subject, byVid, call).catch((error) => {
        throw namedFailure(error, exportName(subject.record), 'stored');
      });
      this.#known.add(disk);
      disks.push(disk);
      this.#disks += 1;
      this.#doneBytes += disk.sizeBytes;
    }
    call.signal?.throwIfAborted();
    const snap = { epoch: LOCAL_EPOCH, timeMs: this.#frozen.instantMs, tag, nodes, disks };
    const entry = await writer.appendSnap('user', snap);
    const saved = {
      entry,
      snap: { log: 'user', ...snap },
      reusedDisks: this.#reusedDisks,
    } as const;
    return { ...this.#counts, ...saved };
  }

  /** Every disk of the snap. Parents first: a child's vid was given later. */
  #subjects(byVid: ReadonlyMap<Vid, VolumeRecord>): Subject[] {
    const { clusterId } = this.#parts;
    const { vdis, snapshots } = this.#frozen;
    const tagged = new Set(snapshots.map(({ vid }) => vid));
    const rules = new Map(vdis.map(({ working }) => [working.name, working.allow]));
    const subjectOf = (record: VolumeRecord, tag: string, createdMs: number): Subject => {
      const { family, vid, name, sizeBytes, objectBytes } = record;
      let parent = parentOf(byVid, record);
      while (parent !== 0 && !tagged.has(parent)) parent = byVid.get(parent)?.parent ?? 0;
      const allow = rules.get(name) ?? record.allow;
      const times = { snapshotMs: record.createdMs, createdMs };
      const who = { clusterId, family, vid, parent, name, snapshot: tag };
      return { record, facts: { ...who, ...times, allow, sizeBytes, objectBytes } };
    };
    return [
      ...snapshots.map((record) => subjectOf(record, record.tag, record.createdMs)),
      ...vdis.map(({ held, working }) => subjectOf(held, '', working.createdMs)),
    ].sort((a, b) => a.record.vid - b.record.vid);
  }

  async #store(
    subject: Subject,
    byVid: ReadonlyMap<Vid, VolumeRecord>,
    call: Call,
  ): Promise<SnapDisk> {
    const { store } = this.#parts;
    const { record, facts } = subject;
    const there = this.#known.find(record);
    if (there !== undefined && (await isRootSound(store, there))) {
      this.#reusedDisks += 1;
      return { ...facts, root: there.root };
    }
    if (there !== undefined) this.#damaged(there, 'the beginning of its tree cannot be read');
    const base = this.#known.findBase(byVid, record);
    if (base === undefined) return this.#capture(subject, undefined, call);
    try {
      return await this.#capture(subject, base, call);
    } catch (error) {
      // Of the VDI itself it is told by the second attempt.
      if (!isDamage(error)) throw error;
      this.#damaged(base.disk, describeError(error));
      return this.#capture(subject, undefined, call);
    }
  }

  /** Damage in the store must not be shared: from now on that is proven which is. */
  #damaged({ name, snapshot }: SnapDisk, cause: string): void {
    const disk = exportName({ name, tag: snapshot });
    this.#parts.log.event('warn', 'snapshots.base-damaged', { disk, cause });
    this.#parts.writer.prove();
  }

  async #capture(subject: Subject, base: Base | undefined, call: Call): Promise<SnapDisk> {
    const { store, writer, objects } = this.#parts;
    const { record, facts } = subject;
    await this.#room.check();
    const signal = anySignal(call.signal, this.#room.signal);
    await using device = await openSnapshot({ store: objects, record });
    const { root, counts } = await captureDisk({
      ...{ store, writer, device, objectBytes: record.objectBytes, signal },
      progress: (done) => this.#tell(subject, done),
      ...(base && {
        base: {
          root: base.disk.root,
          sizeBytes: base.disk.sizeBytes,
          changed: changedRanges(objects, { earlier: base.record, later: record }, { signal }),
        },
      }),
    });
    this.#counts = sum(this.#counts, counts);
    return { ...facts, root };
  }

  /** @param counts  of this disk, with up to where it is done */
  #tell({ record: { name }, facts }: Subject, counts: SaveCounts & { readonly at?: number }): void {
    const disk = exportName({ name, tag: facts.snapshot });
    const [disks, totalDisks] = [this.#disks, this.#totalDisks];
    const [doneBytes, totalBytes] = [this.#doneBytes + (counts.at ?? 0), this.#totalBytes];
    const told = { phase: 'storing', disks, totalDisks, disk } as const;
    const all = sum(this.#counts, counts);
    this.#room.stored(all.storedBytes);
    this.#progress({ ...all, doneBytes, totalBytes, ...told });
  }
}

function sum(one: SaveCounts, other: SaveCounts): SaveCounts {
  return {
    readBytes: one.readBytes + other.readBytes,
    newBytes: one.newBytes + other.newBytes,
    sharedBytes: one.sharedBytes + other.sharedBytes,
    storedBytes: one.storedBytes + other.storedBytes,
  };
}

/** As it is now: one that was forgotten meanwhile has handed its children on. */
function parentOf(byVid: ReadonlyMap<Vid, VolumeRecord>, record: VolumeRecord): Vid | 0 {
  return (byVid.get(record.vid) ?? record).parent;
}
