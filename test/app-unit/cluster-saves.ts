import type { SaveProgress } from '../../src/app/cluster-snapshots/save.ts';
import { type Saved, saveSnapshot } from '../../src/app/cluster-snapshots/save.ts';
import type { Call } from '../../src/contracts/call.ts';
import { checkStore } from '../../src/farm/snapshots/check.ts';
import { restoreDisk } from '../../src/farm/snapshots/restore.ts';
import type { Snap } from '../../src/farm/snapshots/snap-contents.ts';
import type { SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { beginWriting } from '../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../src/sim/sim-disk.ts';
import { exportName } from '../../src/vdi/record.ts';
import { blockValue } from '../crash/block-model.ts';
import { all } from '../farm/snapshots/backups.ts';
import type { FamilyModel } from '../vdi/family-model.ts';
import type { ClusterWorld } from './cluster-world.ts';
import { MemoryDevice } from './memory-device.ts';

/** Saves as a sheep does: with a writer of its own. */
export async function saveNow(
  { parts }: Pick<ClusterWorld, 'parts'>,
  tag: string,
  call: Call = {},
  progress: (done: SaveProgress) => void = () => undefined,
): Promise<Saved> {
  await using writer = await beginWriting(parts.store);
  return await saveSnapshot({ ...parts, writer }, tag, call, progress);
}

/** What a snap holds, block by block, by `NAME` or `NAME@TAG`. */
async function contentsOf(
  store: SnapshotStore,
  snap: Pick<Snap, 'disks'>,
): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for (const { name, snapshot, root, sizeBytes, objectBytes } of snap.disks) {
    const device = new MemoryDevice(sizeBytes);
    await restoreDisk({ store, root, device, sizeBytes, objectBytes });
    const values: number[] = [];
    for (let at = 0; at < sizeBytes; at += 4096) {
      values.push(blockValue(device.bytes.subarray(at, at + 4096)) ?? Number.NaN);
    }
    found.set(exportName({ name, tag: snapshot }), values);
  }
  return found;
}

/** What is not in the snap as the model has it, or is wrong with the store, as sentences. */
export async function wrongIn(
  store: SnapshotStore,
  snap: Pick<Snap, 'disks'>,
  model: FamilyModel,
): Promise<string[]> {
  const findings = await all(checkStore(store));
  return [...(await differences(store, snap, model)), ...findings.map(({ message }) => message)];
}

/** What is not in the snap as the model has it, as sentences. */
export async function differences(
  store: SnapshotStore,
  snap: Pick<Snap, 'disks'>,
  model: FamilyModel,
): Promise<string[]> {
  const found = await contentsOf(store, snap);
  const expected = [...model.names, ...model.snapshots];
  const wrong = [...found.keys()]
    .filter((name) => !expected.includes(name))
    .map((name) => `${name} is in it`);
  for (const name of expected) {
    const [is, was] = [found.get(name), model.of(name)];
    const block = was.findIndex((value, at) => is?.[at] !== value);
    if (is?.length !== was.length)
      wrong.push(`${name} has ${is?.length} blocks, had ${was.length}`);
    else if (block >= 0) wrong.push(`${name}: block ${block} is ${is[block]}, was ${was[block]}`);
  }
  return wrong;
}

/** States that are held or were and are not gone: name and state, oldest first. */
export async function heldIn({ directory }: ClusterWorld): Promise<string[]> {
  return (await directory.all())
    .filter(({ state }) => state === 'held' || state === 'released')
    .map(({ name, state, vid }) => `${name} ${state} ${vid}`);
}

/** Turns a bit of an object of the snapshot store. */
export async function damage(
  disk: SimDisk,
  { packs }: SnapshotStore,
  name: Uint8Array,
): Promise<void> {
  const { pack, offset } = packs.index.at(packs.index.find(name));
  await using file = await disk.open(packs.pathOf(packs.get(pack)!.id));
  const byte = new Uint8Array(1);
  await file.read(offset + 100, byte);
  await file.write(
    offset + 100,
    byte.map((value) => value ^ 1),
  );
}
