import { BLOCK_BYTES as B } from '../../../src/base/units.ts';
import { captureDisk } from '../../../src/farm/snapshots/capture.ts';
import { restoreDisk } from '../../../src/farm/snapshots/restore.ts';
import type { Snap, SnapDisk } from '../../../src/farm/snapshots/snap-contents.ts';
import type { SnapEntry, SnapshotStore } from '../../../src/farm/snapshots/store.ts';
import type { StoreWriter } from '../../../src/farm/snapshots/writer.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import { MemoryDevice } from '../../app-unit/memory-device.ts';

/** Objects of four slices, so that a small disk has several levels of names. */
export const OBJECT = 4 * B;

/** Blocks of it are of random content, of a few contents that come again, or holes. */
export function someDisk(blocks: number, seed: number): MemoryDevice {
  const device = new MemoryDevice(blocks * B);
  const random = simRandom(seed);
  for (let block = 0; block < blocks; block += 1) {
    const kind = random.below(4);
    if (kind === 0) change(device, block, random.below(2 ** 30));
    else if (kind === 1) device.fill(block, block + 1, 1 + random.below(3));
  }
  return device;
}

/** Fills a block with what `seed` says. */
export function change(device: MemoryDevice, block: number, seed: number): void {
  device.fill(block, block + 1, 1);
  device.bytes.set(simRandom(seed).bytes(B), block * B);
}

/** A snap of one disk, as a backup is made. */
export async function backUp(
  writer: StoreWriter,
  device: MemoryDevice,
  tag: string,
  more: Partial<SnapDisk & Pick<Snap, 'timeMs'>> = {},
): Promise<SnapEntry> {
  const { store } = writer;
  const { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
  const { timeMs = 1000, ...facts } = more;
  const disk: SnapDisk = {
    ...{ clusterId: '00000000-0000-4000-8000-000000000000', family: 1, vid: 2, parent: 0 },
    ...{
      name: 'demo',
      snapshot: tag,
      snapshotMs: 500,
      createdMs: 500,
      allow: ['default'],
      sizeBytes: device.info.sizeBytes,
      objectBytes: OBJECT,
    },
    ...facts,
    root,
  };
  return writer.appendSnap('user', { epoch: 0, timeMs, tag, nodes: [], disks: [disk] });
}

/** What a snap's first disk holds. */
export async function bytesOf(store: SnapshotStore, { name }: SnapEntry): Promise<Uint8Array> {
  const [disk] = (await store.readSnap(name)).disks;
  const { root, sizeBytes, objectBytes } = disk!;
  const device = new MemoryDevice(sizeBytes);
  await restoreDisk({ store, root, device, sizeBytes, objectBytes });
  return device.bytes;
}

/** Everything that a check finds. */
export async function all<T>(found: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const each of found) list.push(each);
  return list;
}
