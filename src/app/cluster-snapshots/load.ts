import { assert } from '../../base/assert.ts';
import { describeError, isDamage, SheepError } from '../../base/errors.ts';
import type { Call } from '../../contracts/call.ts';
import { planRestore, type RestoreCounts, restoreDisk } from '../../farm/snapshots/restore.ts';
import type { Snap } from '../../farm/snapshots/snap-contents.ts';
import { readRoot } from '../../vdi/inode-nodes.ts';
import { makeVolume, openVolume } from '../../vdi/open-volume.ts';
import { exportName, type VolumeRecord } from '../../vdi/record.ts';
import { keyOf, snapshotKey } from '../attachments.ts';
import { sparing } from '../backup/sparing.ts';
import {
  arrivingOf,
  type LoadOptions,
  type LoadPlan,
  type LoadStep,
  makePlan,
} from './load-plan.ts';
import { giveNames, type NamingCall } from './naming.ts';
import type { SnapshotParts } from './parts.ts';

/** What a load does, or would do; as JSON. */
export interface Loaded {
  /** VDIs and snapshots that are made, parents first. */
  readonly made: readonly LoadedDisk[];
  /** Snapshots that are there as they were. */
  readonly reused: readonly LoadedExport[];
  /** Working VDIs that others replace. */
  readonly replaced: readonly LoadedExport[];
  /** Of all that is made. */
  readonly writtenBytes: number;
}

export interface LoadedExport {
  /** `NAME` or `NAME@TAG`. */
  readonly export: string;
  readonly sizeBytes: number;
}

export interface LoadedDisk extends LoadedExport {
  /**
   * What is read from the snapshot because it is not as in the disk that this one is grown from, and
   * what is zeroes and was not in that one; by slices.
   */
  readonly writtenBytes: number;
  readonly zeroedBytes: number;
}

export interface LoadProgress {
  /** What is being made: its `export`, and which one it is of how many. */
  readonly export: string;
  readonly disk: number;
  readonly disks: number;
  /** What is read from the snapshot, of all disks together. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface LoadCall extends NamingCall {
  /** Aborted when sheep stops: once a load is decided nothing else ends it. */
  readonly stopping?: AbortSignal;
}

/** What a load would do now; changes nothing. @throws SheepError as of `makePlan`; `ERR_CORRUPT` */
export async function planLoad(
  parts: SnapshotParts,
  snap: Snap,
  options: LoadOptions,
  call: Call = {},
): Promise<Loaded> {
  return measure(parts, await planNow(parts, snap, options), call);
}

/**
 * Brings back what a snapshot of the cluster holds, as it was: all that is asked for, or nothing.
 * Nobody sees any of it before all of it is stable; then it has its names at once. From the moment
 * that this is decided it goes on until it is so, also if whoever asked for it leaves; who wants to
 * attach or change any of it waits.
 * @throws SheepError as of `makePlan`, before anything is changed; `ERR_NO_SPACE`; `ERR_CORRUPT`,
 *         `ERR_MISSING` with the object, the VDI and the bytes that are lost; the signal's reason:
 *         then what was made is removed; `ERR_SHUTDOWN` with that it is whole, and is named by the next
 *         start
 */
export async function loadSnapshot(
  parts: SnapshotParts,
  snap: Snap,
  options: LoadOptions,
  call: LoadCall,
  progress: (done: LoadProgress) => void,
): Promise<Loaded> {
  const { directory, volumes, log } = parts;
  const plan = await planNow(parts, snap, options);
  const loaded = await measure(parts, plan, call);
  const loading = new Loading(parts, loaded, call, progress);
  try {
    for (const step of plan.steps) await loading.make(step);
    const decide = async () => {
      call.signal?.throwIfAborted();
      const { reused } = await planNow(parts, snap, options);
      if (reused.length < plan.reused.length) {
        const message = 'a snapshot that was there was deleted meanwhile; load again';
        throw new SheepError('ERR_BUSY', message);
      }
      await directory.arrivals.decide(loading.vids);
    };
    const keys = [...loading.keys, ...plan.reused.map(keyOf)];
    const { stopping: signal, heldUp } = call;
    const naming = { ...(signal && { signal }), ...(heldUp && { heldUp }) };
    await volumes.arrive(keys, decide, (replaced) => giveNames(parts, replaced, naming));
  } catch (error) {
    await loading.giveUp();
    throw error;
  }
  const { made, reused, replaced } = loaded;
  const counts = { made: made.length, reused: reused.length, replaced: replaced.length };
  log.event('info', 'cluster.snapshot-loaded', { tag: snap.tag, ...counts });
  return loaded;
}

async function planNow(
  { directory, volumes, clusterId }: SnapshotParts,
  snap: Snap,
  options: LoadOptions,
): Promise<LoadPlan> {
  const clientsOf = (name: string) => volumes.clients(name).map((client) => client.name);
  return makePlan(snap, { clusterId, clientsOf, records: await directory.all() }, options);
}

async function measure(
  parts: SnapshotParts,
  { steps, reused, replaced }: LoadPlan,
  call: Call,
): Promise<Loaded> {
  const made: LoadedDisk[] = [];
  for (const step of steps) {
    const work = planRestore({ ...sourceOf(parts, step), ...call });
    const { writtenBytes, zeroedBytes } = await work.catch((error) => refuseLost(step, error));
    const { sizeBytes } = step.disk;
    made.push({ export: exportName(step), sizeBytes, writtenBytes, zeroedBytes });
  }
  const writtenBytes = made.reduce((sum, disk) => sum + disk.writtenBytes, 0);
  return { made, reused: reused.map(viewOf), replaced: replaced.map(viewOf), writtenBytes };
}

function viewOf(record: VolumeRecord): LoadedExport {
  return { export: exportName(record), sizeBytes: record.sizeBytes };
}

/** What a disk of the snapshot is restored of, and what it finds there. */
function sourceOf({ store }: SnapshotParts, { disk, from }: LoadStep) {
  const { root, sizeBytes, objectBytes } = disk;
  return { store, root, sizeBytes, objectBytes, ...(from && { present: from.disk }) };
}

function refuseLost({ disk }: LoadStep, error: unknown): never {
  if (!isDamage(error)) throw error;
  const name = exportName({ name: disk.name, tag: disk.snapshot });
  const message = `'${name}' cannot be loaded: ${error.message}`;
  throw new SheepError(error.code, message, { ...error.facts, vdi: name }, error);
}

/** The disks that one load makes, none of which has a name yet. */
class Loading {
  readonly #parts: SnapshotParts;
  readonly #loaded: Loaded;
  readonly #call: Call;
  readonly #progress: (done: LoadProgress) => void;
  readonly #made = new Map<LoadStep, VolumeRecord>();
  /** Of the disks before this one. */
  #writtenBytes = 0;

  constructor(
    parts: SnapshotParts,
    loaded: Loaded,
    call: Call,
    progress: (done: LoadProgress) => void,
  ) {
    this.#parts = parts;
    this.#loaded = loaded;
    this.#call = call;
    this.#progress = progress;
  }

  get vids(): number[] {
    return [...this.#made.values()].map(({ vid }) => vid);
  }

  /** Behind these all of them are to be, and what they replace is. */
  get keys(): string[] {
    return [...this.#made.values()].flatMap(({ name, tag, vid }) =>
      tag === '' ? [name] : [name, snapshotKey({ name, snapshot: String(vid) })],
    );
  }

  /** One disk, with all that it holds; what it is grown from was made before. Then it is stable. */
  async make(step: LoadStep): Promise<void> {
    const { objects: store, directory } = this.#parts;
    const { name, disk, from } = step;
    const parent = from && this.#recordOf(from.at);
    const record = await directory.arrivals.begin(arrivingOf(disk, name), parent?.vid ?? 0);
    this.#made.set(step, record);
    await makeVolume({ store, record }, parent && (await readRoot(store, parent)));
    const volume = await openVolume({ store, record });
    const restored = restoreDisk({
      ...sourceOf(this.#parts, step),
      ...this.#call,
      device: sparing(volume, from === undefined),
      progress: (counts) => this.#tell(counts),
    });
    const counts = await restored.catch((error) => refuseLost(step, error));
    await volume.flush();
    this.#tell(counts);
    this.#writtenBytes += counts.writtenBytes;
  }

  /** What was made is removed, unless it is decided that it stays. */
  async giveUp(): Promise<void> {
    const { directory, deletions, log } = this.#parts;
    try {
      // The youngest first: nothing of one is kept for another.
      const left = await directory.arrivals.abandon(this.vids.reverse());
      for (const record of left) deletions.begin(record);
    } catch (error) {
      log.event('error', 'cluster.load-left', { cause: describeError(error) });
    }
  }

  #recordOf(at: LoadStep | VolumeRecord): VolumeRecord {
    if (!('disk' in at)) return at;
    const made = this.#made.get(at);
    assert(made !== undefined, 'parents are made before their children');
    return made;
  }

  #tell({ writtenBytes }: RestoreCounts): void {
    const { made, writtenBytes: totalBytes } = this.#loaded;
    const disk = this.#made.size;
    this.#progress({
      export: made[disk - 1]?.export ?? '',
      disk,
      disks: made.length,
      doneBytes: this.#writtenBytes + writtenBytes,
      totalBytes,
    });
  }
}
