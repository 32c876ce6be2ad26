/** One step with a store of a million slices, for packs.ts: `million.ts STEP DIR`. */
import { hostname } from 'node:os';
import type { CodecName } from '../src/base/content.ts';
import { silentLog } from '../src/base/log.ts';
import { GiB, KiB, MiB } from '../src/base/units.ts';
import type { BlockDevice } from '../src/contracts/block-device.ts';
import { captureDisk } from '../src/farm/snapshots/capture.ts';
import { checkStore } from '../src/farm/snapshots/check.ts';
import { collect, planCollection } from '../src/farm/snapshots/collect.ts';
import { openSnapshotStore, type SnapshotStore } from '../src/farm/snapshots/store.ts';
import { beginWriting, type StoreWriter } from '../src/farm/snapshots/writer.ts';
import { nodeClock } from '../src/host/node-clock.ts';
import { nodeCpuPool } from '../src/host/node-cpu-pool.ts';
import { nodeDisk } from '../src/host/node-disk.ts';
import { nodeRandom } from '../src/host/node-random.ts';

/** After `thin` a snap needs one slice in four of what is there, so `collect` has to move all that stays. */
export const STEPS = ['make', 'open', 'plan', 'check', 'thin', 'collect'] as const;
export type Asked = (typeof STEPS)[number];

export interface Told {
  readonly seconds: number;
  /** The most that the process ever took. */
  readonly residentBytes: number;
}

const SLICE = 4 * KiB;
const OBJECT = 4 * MiB;
const SIZE = 4 * GiB; // 1,048,576 slices, none like another
const THINNED = 4;

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
function numberedDisk(
  sizeBytes: number,
  numberOf: (slice: number) => number,
): Pick<BlockDevice, 'info' | 'read' | 'extents'> {
  return {
    info: { sizeBytes, readOnly: true, description: 'numbered slices' },
    read: (at, into) => {
      into.fill(0);
      const view = new DataView(into.buffer, into.byteOffset, into.length);
      for (let from = 0; from < into.length; from += SLICE)
        view.setUint32(from, numberOf((at + from) / SLICE) + 1);
    },
    extents: (_at, length) => [{ length, hole: false, zero: false }],
  };
}

/** A snap of a disk that has every so many-th slice of the numbered one. */
async function save(writer: StoreWriter, tag: string, every: number): Promise<void> {
  const { store } = writer;
  const sizeBytes = SIZE / every;
  const device = numberedDisk(sizeBytes, (slice) => slice * every) as BlockDevice;
  const { root } = await captureDisk({ store, writer, device, objectBytes: OBJECT });
  const facts = { clusterId: 'bench', family: 1, vid: 1, parent: 0, name: tag, snapshot: 's' };
  const times = { snapshotMs: 0, createdMs: 0, allow: [] };
  const disk = { ...facts, ...times, sizeBytes, objectBytes: OBJECT, root };
  await writer.appendSnap('user', { epoch: 0, timeMs: 0, tag, nodes: [], disks: [disk] });
}

async function thin(writer: StoreWriter): Promise<void> {
  const whole = writer.store.snaps();
  await save(writer, 'thin', THINNED);
  for (const snap of whole) await writer.cancelSnap(snap);
}

async function collectAll(writer: StoreWriter): Promise<void> {
  const { sparse, copyBytes } = await collect(writer, { graceMs: 0 });
  if (sparse.length === 0 || copyBytes === 0) throw new Error('there was something to be moved');
}

async function step(asked: Asked, store: SnapshotStore): Promise<void> {
  if (asked === 'plan') {
    const { liveBytes, missing } = await planCollection(store, { graceMs: 0 });
    if (liveBytes === 0 || missing > 0) throw new Error('all of it is live');
  }
  if (asked === 'check') {
    for await (const { message } of checkStore(store)) throw new Error(message);
  }
  if (asked === 'make' || asked === 'thin' || asked === 'collect') {
    await using writer = await beginWriting(store);
    if (asked === 'make') await save(writer, 'numbers', 1);
    if (asked === 'thin') await thin(writer);
    if (asked === 'collect') await collectAll(writer);
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
