import { assert } from '../../base/assert.ts';
import { NAME_BYTES } from '../../base/content.ts';
import { formatOid, type ObjectName } from '../../base/ids.ts';
import type { Call } from '../../contracts/call.ts';
import { captureDisk } from './capture.ts';
import { ObjectSource, type SourceObject } from './object-source.ts';
import type { Snap, SnapDisk } from './snap-contents.ts';
import { encodeStaleList, type StaleObject } from './stale-list.ts';
import { type ClusterFacts, mayGo } from './stale-rules.ts';
import { groupVid, LIST_LEAF_SLICES, LIST_VID, openStale, type StaleSnap } from './stale-snap.ts';
import type { SnapEntry, SnapshotStore } from './store.ts';
import { TrunkBuilder } from './trunk-builder.ts';
import { sameName, trunkShape } from './trunk-format.ts';
import { TrunkReader } from './trunk-reader.ts';
import type { StoreWriter } from './writer.ts';

/** An object that is to be kept. */
export interface LeftBehind extends StaleObject, Pick<SourceObject, 'read'> {}

export interface KeepOptions extends Call, Pick<Snap, 'epoch' | 'timeMs' | 'nodes'> {
  readonly clusterId: string;
  /** By ascending oid, none twice; at least one. */
  readonly objects: readonly LeftBehind[];
}

export interface Kept {
  readonly entry: SnapEntry;
  /** Of which the snap of an earlier epoch holds the very same content: nothing was stored … */
  readonly unchanged: number;
  /** … and of which one holds another: that is stale, and may go when `releaseStale` finds so. */
  readonly replaced: number;
}

/**
 * Stores what an epoch left behind, in a snap of that epoch. Stopped anywhere it has stored nothing
 * that anybody finds.
 * @throws SheepError of the objects and of the store; the writer is of no use then
 */
export async function keepStale(writer: StoreWriter, options: KeepOptions): Promise<Kept> {
  const { epoch, nodes, clusterId, objects } = options;
  assert(objects.length > 0, 'a snap of an epoch is of something');
  const before = writer.store.snaps('sys');
  // Their times are their order, also when one is written anew or a clock was set back.
  const timeMs = Math.max(options.timeMs, (before.at(-1)?.timeMs ?? -1) + 1);
  const common = { clusterId, timeMs };
  const disks = [await storeList(writer, objects, common)];
  for (const group of groupsOf(objects)) {
    disks.push(await storeGroup(writer, group, common, options));
  }
  const entry = await writer.appendSnap('sys', { epoch, timeMs, tag: '', nodes, disks });
  const earlier = before.filter((snap) => snap.epoch <= epoch);
  return { entry, ...(await compare(writer.store, entry, earlier)) };
}

/**
 * Takes out of the snaps of epochs what may go, and frees nothing by itself: `collect` does. Stopped
 * anywhere it has lost nothing that must stay, and the next one goes on.
 * @returns how many objects went, each counted once for each snap
 */
export async function releaseStale(
  writer: StoreWriter,
  facts: ClusterFacts,
  { signal }: Call = {},
): Promise<number> {
  let released = 0;
  for (const entry of writer.store.snaps('sys')) {
    signal?.throwIfAborted();
    const found = await openStale(writer.store, entry);
    const stays: StaleObject[] = [];
    const goes: StaleObject[] = [];
    for (const object of found.objects) {
      const content = await found.contentOf(object);
      (mayGo(entry.epoch, object, content, facts) ? goes : stays).push(object);
    }
    if (goes.length === 0) continue;
    // What stays is stable under its new name before the old one goes.
    if (stays.length > 0) await writer.appendSnap('sys', await without(writer, found, stays, goes));
    await writer.cancelSnap(entry);
    released += goes.length;
  }
  return released;
}

/**
 * The newest of what this node has of an object as of an epoch, in the snaps of epochs.
 * @throws SheepError `ERR_CORRUPT`, `ERR_MISSING`, `ERR_VERSION` if a snap cannot be read
 */
export async function findStale(
  store: SnapshotStore,
  name: ObjectName,
  epoch: number,
): Promise<{ readonly snap: StaleSnap; readonly object: StaleObject } | undefined> {
  const snaps = store.snaps('sys').filter((entry) => entry.epoch <= epoch);
  // Of one epoch the last one replaces those before.
  for (const entry of snaps.reverse().sort((a, b) => b.epoch - a.epoch)) {
    const snap = await openStale(store, entry);
    const object = snap.find(name);
    if (object !== undefined) return { snap, object };
  }
  return undefined;
}

/** How much of a new snap the ones before had; the newest that had an object decides. */
async function compare(
  store: SnapshotStore,
  entry: SnapEntry,
  earlier: readonly SnapEntry[],
): Promise<Omit<Kept, 'entry'>> {
  const now = await openStale(store, entry);
  let undecided = now.objects;
  let [unchanged, replaced] = [0, 0];
  for (const each of earlier.toReversed()) {
    if (undecided.length === 0) break;
    const before = await openStale(store, each);
    const notThere: StaleObject[] = [];
    for (const object of undecided) {
      const found = before.find(object.name);
      if (found === undefined) notThere.push(object);
      else if (sameName(await before.contentOf(found), await now.contentOf(object))) unchanged += 1;
      else replaced += 1;
    }
    undecided = notThere;
  }
  return { unchanged, replaced };
}

interface Common {
  readonly clusterId: string;
  readonly timeMs: number;
}

/** Objects of one kind of one VDI. */
function groupsOf<T extends StaleObject>(objects: readonly T[]): T[][] {
  const groups: T[][] = [];
  for (const object of objects) {
    const group = groups.at(-1);
    const first = group?.[0]?.name;
    if (first?.kind === object.name.kind && first.vid === object.name.vid) group?.push(object);
    else groups.push([object]);
  }
  return groups;
}

/** What every disk of such a snap says, though none of them is one that could be attached. */
function diskOf({
  clusterId,
  timeMs,
}: Common): Omit<SnapDisk, 'vid' | 'name' | 'sizeBytes' | 'objectBytes' | 'root'> {
  return {
    ...{ clusterId, family: 0, parent: 0, snapshot: '' },
    ...{ snapshotMs: timeMs, createdMs: timeMs, allow: [] },
  };
}

async function storeList(
  writer: StoreWriter,
  objects: readonly StaleObject[],
  common: Common,
): Promise<SnapDisk> {
  const { store } = writer;
  const list = encodeStaleList(objects);
  const read = (at: number, into: Uint8Array) => into.set(list.subarray(at, at + into.length));
  const source = new ObjectSource([{ index: 0, bytes: list.length, read }], list.length);
  const objectBytes = LIST_LEAF_SLICES * store.identity.sliceBytes;
  const { root } = await captureDisk({ store, writer, device: source, objectBytes });
  const sizeBytes = list.length;
  return { ...diskOf(common), vid: LIST_VID, name: 'list', sizeBytes, objectBytes, root };
}

async function storeGroup(
  writer: StoreWriter,
  group: readonly LeftBehind[],
  common: Common,
  { signal }: Call,
): Promise<SnapDisk> {
  const { store } = writer;
  const largest = group.reduce(
    (bytes, each) => Math.max(bytes, each.bytes),
    store.identity.sliceBytes,
  );
  const objectBytes = 2 ** Math.ceil(Math.log2(largest));
  const places = group.map((each) => ({
    ...each,
    index: each.name.index,
    read: each.read.bind(each),
  }));
  const device = new ObjectSource(places, objectBytes);
  const { root } = await captureDisk({
    store,
    writer,
    device,
    objectBytes,
    ...(signal && { signal }),
  });
  const { sizeBytes } = device.info;
  return { ...diskOf(common), ...groupOf(group), sizeBytes, objectBytes, root };
}

function groupOf([first]: readonly StaleObject[]): Pick<SnapDisk, 'vid' | 'name'> {
  assert(first !== undefined, 'no group is empty');
  return { vid: groupVid(first.name), name: `objects of ${formatOid(first.name).slice(0, 9)}` };
}

/** The snap without some of its objects: nothing of what stays is read. */
async function without(
  writer: StoreWriter,
  { snap, disks }: StaleSnap,
  stays: readonly StaleObject[],
  goes: readonly StaleObject[],
): Promise<Omit<Snap, 'log'>> {
  const { store } = writer;
  const [clusterId, { timeMs }] = [snap.disks[0]?.clusterId ?? '', snap];
  const left = [await storeList(writer, stays, { clusterId, timeMs })];
  const gone = new Map(groupsOf(goes).map((group) => [groupVid(group[0]!.name), group]));
  for (const group of groupsOf(stays)) {
    const disk = disks.get(groupVid(group[0]!.name));
    assert(disk !== undefined, 'each object has its place');
    const shape = trunkShape(disk.sizeBytes, disk.objectBytes, store.identity.sliceBytes);
    const base = new TrunkReader(store, { root: disk.root, shape });
    const builder = new TrunkBuilder(writer, shape, base);
    for (const { name } of gone.get(disk.vid) ?? []) {
      await builder.setLeaf(name.index, new Uint8Array(shape.leafSlices * NAME_BYTES));
    }
    left.push({ ...disk, root: await builder.finish() });
  }
  return { ...snap, disks: left };
}
