/** One step with a store of a million slices, for packs.ts: `million.ts make|open|plan|check DIR`. */
import { hostname } from 'node:os';
import type { CodecName } from '../src/base/content.ts';
import { silentLog } from '../src/base/log.ts';
import { GiB, KiB, MiB } from '../src/base/units.ts';
import type { BlockDevice } from '../src/contracts/block-device.ts';
import { captureDisk } from '../src/farm/snapshots/capture.ts';
import { checkStore } from '../src/farm/snapshots/check.ts';
import { planCollection } from '../src/farm/snapshots/collect.ts';
import { openSnapshotStore, type SnapshotStore } from '../src/farm/snapshots/store.ts';
import { beginWriting } from '../src/farm/snapshots/writer.ts';
import { nodeClock } from '../src/host/node-clock.ts';
import { nodeCpuPool } from '../src/host/node-cpu-pool.ts';
import { nodeDisk } from '../src/host/node-disk.ts';
import { nodeRandom } from '../src/host/node-random.ts';

export type Asked = 'make' | 'open' | 'plan' | 'check';

export interface Told {
  readonly seconds: number;
  /** The most that the process ever took. */
  readonly residentBytes: number;
}

const SLICE = 4 * KiB;
const OBJECT = 4 * MiB;
const SIZE = 4 * GiB; // 1,048,576 slices, none like another

/** A store with short slices, whatever the folder holds. */
export async function openBenchStore(directory: string, codec: CodecName = 'zstd') {
  const owned = new AsyncDisposableStack();
  const pool = owned.use(nodeCpuPool());
  const options = { clock: nodeClock(), random: nodeRandom(), log: silentLog, pool };
  const store = owned.use(
    await openSnapshotStore({
      ...{ ...options, disk: nodeDisk(), directory },
      holder: { host: hostname(), pid: process.pid },
      create: { hash: 'sha256', codec, sliceBytes: SLICE },
    }),
  );
  return { store, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

/** A disk whose slices differ in their first word alone: they take next to nothing. */
function numberedDisk(): Pick<BlockDevice, 'info' | 'read' | 'extents'> {
  return {
    info: { sizeBytes: SIZE, readOnly: true, description: 'numbered slices' },
    read: (at, into) => {
      into.fill(0);
      const view = new DataView(into.buffer, into.byteOffset, into.length);
      for (let from = 0; from < into.length; from += SLICE)
        view.setUint32(from, (at + from) / SLICE + 1);
    },
    extents: (_at, length) => [{ length, hole: false, zero: false }],
  };
}

async function make(store: SnapshotStore): Promise<void> {
  await using writer = await beginWriting(store);
  const device = numberedDisk() as BlockDevice;
  const { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
  const facts = {
    clusterId: 'bench',
    family: 1,
    vid: 1,
    parent: 0,
    name: 'numbers',
    snapshot: 's',
  };
  const times = { snapshotMs: 0, createdMs: 0, allow: [] };
  const disk = { ...facts, ...times, sizeBytes: SIZE, objectBytes: OBJECT, root };
  const what = { epoch: 0, timeMs: 0, tag: 'numbers', nodes: [] };
  await writer.appendSnap('user', { ...what, disks: [disk] });
}

async function step(asked: Asked, store: SnapshotStore): Promise<void> {
  if (asked === 'make') await make(store);
  if (asked === 'plan') {
    const { liveBytes, missing } = await planCollection(store, { graceMs: 0 });
    if (liveBytes === 0 || missing > 0) throw new Error('all of it is live');
  }
  if (asked === 'check') {
    for await (const { message } of checkStore(store)) throw new Error(message);
  }
}

if (import.meta.main) {
  const [asked, directory] = process.argv.slice(2);
  const begun = performance.now();
  await using opened = await openBenchStore(directory as string);
  await step(asked as Asked, opened.store);
  const seconds = (performance.now() - begun) / 1000;
  const told: Told = { seconds, residentBytes: process.resourceUsage().maxRSS * KiB };
  console.log(JSON.stringify(told));
}
