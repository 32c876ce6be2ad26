import type { Bitmap } from '../../base/bitmap.ts';
import { isFault } from '../../base/errors.ts';
import type { Call } from '../../contracts/call.ts';
import { markLive } from './live-marks.ts';
import { INDEX_ENTRY_BYTES, OBJECT_HEADER_BYTES, PACK_OVERHEAD_BYTES } from './pack-format.ts';
import type { Pack } from './packs.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import type { StoreWriter } from './writer.ts';

export interface CollectOptions extends Call {
  /** Packs younger than this are left alone: another program may be about to need them. */
  readonly graceMs: number;
  /** Snaps that are taken for cancelled; for plans. */
  readonly without?: readonly SnapEntry[];
  readonly progress?: (done: CollectProgress) => void;
}

/** Bytes that are to be copied before anything can go. */
export interface CollectProgress {
  readonly copiedBytes: number;
  readonly totalBytes: number;
}

/** What a collection does, in bytes and files of the medium. */
export interface CollectPlan {
  /** Packs of which nothing is needed. */
  readonly dead: readonly Pack[];
  /** Packs of which little is needed, or that are small: what is, is written anew. */
  readonly sparse: readonly Pack[];
  /** What is written anew. */
  readonly copyBytes: number;
  /** Less will be there afterwards. */
  readonly freedBytes: number;
  /** What snaps need, and what stays beside it because its pack is full enough or too young. */
  readonly liveBytes: number;
  readonly keptBytes: number;
  /** Slices that snaps need and that are not there: `checkStore` tells of which disks. */
  readonly missing: number;
}

/** What an object takes beside its stored bytes, with its entry in the index of its pack. */
const OBJECT_BYTES = OBJECT_HEADER_BYTES + INDEX_ENTRY_BYTES;

/** How many entries are looked at before others get their turn. */
const TURN_ENTRIES = 16_384;

/**
 * What a collection would do now; changes nothing and needs no writer.
 * @throws SheepError as of `collect`
 */
export async function planCollection(
  store: SnapshotStore,
  options: CollectOptions,
): Promise<CollectPlan> {
  return (await plan(store, options)).plan;
}

/**
 * Frees what no snap needs. Stopped anywhere it has lost nothing, and the next one goes on: what is
 * written anew is stable before what it replaces goes, and a name may stand in two packs.
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` if a snap or trunk cannot be read: nothing is freed,
 *         because nobody knows what it needs; cancel the snap or put back what is missing
 */
export async function collect(writer: StoreWriter, options: CollectOptions): Promise<CollectPlan> {
  const { store } = writer;
  const { live, plan: planned } = await plan(store, options);
  const kept = new Set<Pack>();
  let copiedBytes = 0;
  for (const pack of planned.sparse) {
    options.signal?.throwIfAborted();
    const copied = await copyLive(writer, pack, live);
    // A damaged object stays where it is: the medium may yet give it back.
    if (copied === undefined) kept.add(pack);
    copiedBytes += copied ?? 0;
    options.progress?.({ copiedBytes, totalBytes: planned.copyBytes });
  }
  await writer.barrier();
  const gone = [...planned.dead, ...planned.sparse].filter((pack) => !kept.has(pack));
  await writer.removePacks(gone);
  await writer.shortenLogs();
  return planned;
}

async function plan(
  store: SnapshotStore,
  options: CollectOptions,
): Promise<{ plan: CollectPlan; live: Bitmap }> {
  const { without = [], graceMs } = options;
  const left = new Set(without.map(({ id }) => id));
  const snaps = store.snaps().filter(({ id }) => !left.has(id));
  const { live, missing } = await markLive(store, snaps, options);
  const needed = await neededBytes(store, live);
  const nowMs = store.options.clock.wallMs();
  const old = [...store.packs.all()].filter(({ id, createdMs }) => {
    // What is missing may lie where nobody finds it now, in a pack that is damaged.
    if (missing > 0 && store.packs.flaws.has(store.packs.pathOf(id))) return false;
    // Whichever way clocks differ, nothing stays young for ever.
    return Math.abs(nowMs - createdMs) >= graceMs;
  });
  const liveOf = ({ number }: Pack) => needed[number] ?? 0;
  const dead = old.filter((pack) => liveOf(pack) === 0);
  const sparse = sparsePacks(store, old, liveOf);
  const sum = (packs: Iterable<Pack>, bytes: (pack: Pack) => number) =>
    [...packs].reduce((total, pack) => total + bytes(pack), 0);
  const sizeOf = ({ fileBytes }: Pack) => fileBytes;
  const copyBytes = sum(sparse, liveOf);
  const liveBytes = sum(store.packs.all(), liveOf);
  const within = (pack: Pack) => sizeOf(pack) - PACK_OVERHEAD_BYTES - liveOf(pack);
  const freedBytes = sum(dead, sizeOf) + sum(sparse, within);
  const keptBytes = sum(store.packs.all(), sizeOf) - freedBytes - liveBytes;
  return { live, plan: { dead, sparse, copyBytes, freedBytes, liveBytes, keptBytes, missing } };
}

/** By pack: bytes of objects that are marked. Marks more where the marked copy of two is damaged. */
async function neededBytes(store: SnapshotStore, live: Bitmap): Promise<number[]> {
  const { index } = store.packs;
  const needed: number[] = [];
  for (let entry = 0; entry < live.length; entry += 1) {
    if (entry % TURN_ENTRIES === 0) await store.options.clock.yield();
    if (!index.isThere(entry)) continue;
    if (!live.has(entry) && (await isLastSoundCopy(store, live, entry))) live.add(entry);
    if (!live.has(entry)) continue;
    const pack = index.packOf(entry);
    needed[pack] = (needed[pack] ?? 0) + OBJECT_BYTES + index.storedBytesOf(entry);
  }
  return needed;
}

/** A collection that was stopped leaves two copies; the other one is marked, and may be damaged. */
async function isLastSoundCopy(
  store: SnapshotStore,
  live: Bitmap,
  entry: number,
): Promise<boolean> {
  const { index } = store.packs;
  const marked = index.find(index.nameOf(entry));
  if (marked === entry || !live.has(marked)) return false;
  return !(await isSound(store, marked)) && (await isSound(store, entry));
}

async function isSound(store: SnapshotStore, entry: number): Promise<boolean> {
  try {
    await store.readEntry(entry);
    return true;
  } catch (error) {
    if (isFault(error, 'ERR_CORRUPT')) return false;
    throw error;
  }
}

/** Packs with too little that is live in them; and small ones, if there are many of their kind. */
function sparsePacks(
  { limits }: SnapshotStore,
  packs: readonly Pack[],
  liveOf: (pack: Pack) => number,
): Pack[] {
  const isSmall = ({ fileBytes }: Pack) => fileBytes < limits.packBytes * limits.smallPackShare;
  const small = packs.filter(isSmall);
  const crowded = (['data', 'tree'] as const).filter(
    (kind) => small.filter((pack) => pack.kind === kind).length > limits.smallPacksMax,
  );
  return packs.filter((pack) => {
    const live = liveOf(pack);
    if (live === 0) return false;
    const objectBytes = pack.fileBytes - PACK_OVERHEAD_BYTES;
    return (
      live < objectBytes * limits.liveShareMin || (isSmall(pack) && crowded.includes(pack.kind))
    );
  });
}

/** @returns how many bytes; undefined if some of it is damaged, and the pack has to stay */
async function copyLive(
  writer: StoreWriter,
  pack: Pack,
  live: Bitmap,
): Promise<number | undefined> {
  const { index } = writer.store.packs;
  let bytes = 0;
  let whole = true;
  for (const entry of writer.store.packs.entriesOf(pack)) {
    if (!live.has(entry)) continue;
    try {
      await writer.copy(entry);
      bytes += OBJECT_BYTES + index.storedBytesOf(entry);
    } catch (error) {
      if (!isFault(error, 'ERR_CORRUPT')) throw error;
      whole = false;
    }
  }
  return whole ? bytes : undefined;
}
