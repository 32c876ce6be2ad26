import type { Disk } from '../../src/contracts/disk.ts';
import { captureDisk } from '../../src/farm/snapshots/capture.ts';
import { checkStore } from '../../src/farm/snapshots/check.ts';
import { collect, planCollection } from '../../src/farm/snapshots/collect.ts';
import type { ByteRange } from '../../src/farm/snapshots/slice-runs.ts';
import type { SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { beginWriting, type StoreWriter } from '../../src/farm/snapshots/writer.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import type { MemoryDevice } from '../app-unit/memory-device.ts';
import { all, backUp, bytesOf, change, OBJECT, someDisk } from '../farm/snapshots/backups.ts';
import { openStore, SMALL } from '../farm/snapshots/store-world.ts';
import { type Stopped, stopAfterEachStep, WAYS, type Way } from './steps.ts';

/** Its parent is not there before it. */
const DIRECTORY = '/backups/deep/store';
const BLOCKS = 12;
const NOW = { graceMs: 0 };

/** Bytes of each backup that is there, by its tag. */
type Backups = ReadonlyMap<string, Uint8Array>;

/** A step of a store's life: what it does, and what is there once it is done. */
interface Step {
  readonly title: string;
  readonly act: (store: SnapshotStore) => Promise<void>;
  readonly done: (before: Backups) => Backups;
  /** Nothing that nobody needs is left. */
  readonly frees?: true;
}

/** The disk as it is after so many rounds of changes. */
function stateOf(round: number): { device: MemoryDevice; changed: ByteRange[] } {
  const device = someDisk(BLOCKS, 1);
  const changed: ByteRange[] = [];
  for (let each = 1; each <= round; each += 1) {
    for (let block = each; block < BLOCKS; block += 5) change(device, block, each * 100 + block);
  }
  for (let block = round; block < BLOCKS; block += 5) changed.push({ at: block * 4096, length: 1 });
  return { device, changed };
}

function backup(tag: string, round: number): Step {
  return {
    title: `backup ${tag}`,
    act: (store) =>
      writing(store, async (writer) => {
        await backUp(writer, stateOf(round).device, tag, { timeMs: round });
      }),
    done: (before) => new Map(before).set(tag, stateOf(round).device.bytes),
  };
}

/** Of what changed since the round before, which is there. */
function incremental(tag: string, base: string, round: number): Step {
  return {
    title: `backup ${tag}, of what changed since ${base}`,
    act: (store) =>
      writing(store, async (writer) => {
        const entry = store.snaps().find((snap) => snap.tag === base);
        const [disk] = (await store.readSnap(entry!.name)).disks;
        const { device, changed } = stateOf(round);
        const captured = await captureDisk({
          ...{ store, writer, device, objectBytes: OBJECT },
          base: { root: disk!.root, sizeBytes: disk!.sizeBytes, changed },
        });
        const disks = [{ ...disk!, root: captured.root }];
        await writer.appendSnap('user', { epoch: 0, timeMs: round, tag, nodes: [], disks });
      }),
    done: (before) => new Map(before).set(tag, stateOf(round).device.bytes),
  };
}

function cancel(tag: string): Step {
  return {
    title: `cancelling ${tag}`,
    act: (store) =>
      writing(store, async (writer) => {
        const entry = store.snaps().find((snap) => snap.tag === tag);
        await writer.cancelSnap(entry!);
      }),
    done: (before) => new Map([...before].filter(([name]) => name !== tag)),
  };
}

const collection: Step = {
  title: 'a collection',
  act: (store) =>
    writing(store, async (writer) => {
      await collect(writer, NOW);
    }),
  done: (before) => before,
  frees: true,
};

async function writing(
  store: SnapshotStore,
  act: (writer: StoreWriter) => Promise<void>,
): Promise<void> {
  await using writer = await beginWriting(store);
  await act(writer);
}

const OPENING: Step = {
  title: 'opening',
  act: () => Promise.resolve(),
  done: (before) => before,
};

/** A life: backups in full and of what changed, one of them cancelled, and a collection between. */
const LIFE: readonly Step[] = [
  backup('mon', 0),
  incremental('tue', 'mon', 1),
  cancel('mon'),
  collection,
  backup('wed', 2),
];

/** `merging`: small packs are put together at every collection. */
const LIMITS = { ...SMALL, smallPacksMax: 1 };

interface StopsOptions {
  readonly hash: 'sha256' | 'sha1';
  /** Something between the store and the disk, such as a sync that is left out. */
  readonly wrap?: (disk: Disk) => Disk;
  /** Only each so-manieth moment, and the end of each step. */
  readonly stride?: number;
  /** Only kills, and each of them with all ways to go on. */
  readonly kills?: boolean;
}

/**
 * Lives through `LIFE` on a recorded disk and stops it after each step of the log, by a kill or by
 * a power cut that loses all or some of what was not synced. What is left is opened,
 * held against what was promised, used, and cut again.
 * @returns how often it was stopped, and what the promises forbid: nothing if all is well
 */
export async function stops(options: StopsOptions): Promise<Stopped> {
  const { wrap = (disk: Disk) => disk } = options;
  const start = new SimDisk({ directories: ['/backups'] });
  const recording = new RecordingDisk(start.kill(), start);
  const shape = { hash: options.hash, codec: 'none', sliceBytes: 4096 } as const;
  const open = (disk: Disk) =>
    openStore({ disk: wrap(disk), directory: DIRECTORY, create: shape, limits: LIMITS });
  const ways = stopsOf(options.kills === true);
  let before: Backups = new Map();
  let [from, count] = [0, 0];
  for (const step of [OPENING, ...LIFE]) {
    {
      await using store = await open(recording);
      await step.act(store);
    }
    const after = step.done(before);
    const { found, stops } = await stopAfterEachStep(
      {
        ...{ recording, from, ways, stride: options.stride ?? 1 },
        isThorough: options.kills === true,
      },
      async (left, { way, answered }) => {
        const wrong = await judge(left, open, { step, before, after, answered }, way.next);
        return wrong === undefined ? [] : [`${step.title}: ${wrong}`];
      },
    );
    count += stops;
    if (found.length > 0) return { found, stops: count };
    [before, from] = [after, recording.log.length];
  }
  return { found: [], stops: count };
}

interface Promised {
  readonly step: Step;
  readonly before: Backups;
  readonly after: Backups;
  readonly answered: boolean;
}

/** How a store goes on that was stopped, as if nothing had been; and what is there then. */
type Next = 'another backup' | 'a collection' | 'the same again';
const NEXT: readonly Next[] = ['another backup', 'a collection', 'the same again'];

/** Each way to stop with each way to go on. */
function stopsOf(kills: boolean): (Way & { readonly next: Next })[] {
  const ways = kills ? WAYS.filter(({ kind }) => kind === 'kill') : WAYS;
  return NEXT.flatMap((next) => ways.map((way) => ({ ...way, next })));
}

async function goOn(
  store: SnapshotStore,
  found: Backups,
  { step, after }: Promised,
  next: Next,
): Promise<Backups> {
  if (next === 'a collection') {
    await collection.act(store);
    return found;
  }
  if (next === 'the same again' && [...after.keys()].some((tag) => !found.has(tag))) {
    await step.act(store);
    return after;
  }
  // Shares with what was found.
  const another = backup('next', 2);
  await another.act(store);
  return another.done(found);
}

async function judge(
  disk: SimDisk,
  open: (disk: Disk) => Promise<SnapshotStore>,
  promised: Promised,
  next: Next,
): Promise<string | undefined> {
  let kept: Backups;
  {
    await using store = await open(disk);
    const first = await compare(store, promised);
    if (typeof first === 'string') return first;
    if (promised.answered && promised.step.frees === true) {
      const { freedBytes } = await planCollection(store, NOW);
      if (freedBytes > 0) return `${freedBytes} bytes are there that were freed`;
    }
    kept = await goOn(store, first, promised, next);
  }
  // What it was built upon may have been of a process that was killed before it synced.
  await using store = await open(disk.powerCut('nothing'));
  await writing(store, async (writer) => {
    await collect(writer, NOW);
  });
  const { freedBytes } = await planCollection(store, NOW);
  if (freedBytes > 0) return `a collection left ${freedBytes} bytes`;
  const end = await compare(store, { ...promised, before: kept, after: kept, answered: true });
  return typeof end === 'string'
    ? `after ${next}, a second cut and a collection: ${end}`
    : undefined;
}

/** Which backups are there; or what is wrong with them. */
async function compare(store: SnapshotStore, promised: Promised): Promise<Backups | string> {
  const { before, after, answered } = promised;
  const snaps = store.snaps();
  const tags = snaps
    .map(({ tag }) => tag)
    .sort()
    .join(' ');
  const allowed = (answered ? [after] : [before, after]).map((each) =>
    [...each.keys()].sort().join(' '),
  );
  if (!allowed.includes(tags)) return `there are "${tags}", and not "${allowed.join('" or "')}"`;
  const found = new Map<string, Uint8Array>();
  for (const snap of snaps) {
    const bytes = await bytesOf(store, snap);
    const expected = after.get(snap.tag) ?? before.get(snap.tag);
    if (Buffer.compare(bytes, expected!) !== 0) return `${snap.tag} has other bytes`;
    found.set(snap.tag, bytes);
  }
  const findings = await all(checkStore(store));
  return findings.length > 0 ? findings.map(({ message }) => message).join('; ') : found;
}
