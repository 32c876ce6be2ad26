import { Deletions } from '../../src/app/deletions.ts';
import { Volumes } from '../../src/app/volumes.ts';
import { formatOid, KIND, type ObjectName, oidParts } from '../../src/base/ids.ts';
import { silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Client } from '../../src/contracts/exports.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import type { Farm } from '../../src/farm/farm.ts';
import { openFarm } from '../../src/farm/open-farm.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { DataNames } from '../../src/vdi/data-names.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import { Inode } from '../../src/vdi/inode.ts';
import { LEAVES_MAX, leafName, rootName } from '../../src/vdi/inode-format.ts';
import { readRoot } from '../../src/vdi/inode-nodes.ts';
import {
  exportName,
  isLeaving,
  isLive,
  plainCall,
  type VolumeRecord,
} from '../../src/vdi/record.ts';
import { blockValue, fillBlocks } from '../crash/block-model.ts';
import { stillClock } from '../crash/disk-world.ts';
import { ROOMY_LIMITS } from './stores.ts';

export const OBJECT_BYTES = MiB;
export const OBJECT_BLOCKS = OBJECT_BYTES / BLOCK_BYTES;
export const CLIENT: Client = { name: 'a test', transport: 'unix' };
export const STORE = '/store';

/** All of a daemon below its sockets, on one disk. */
export interface FamilyWorld {
  readonly farm: Farm;
  readonly directory: VdiDirectory;
  readonly volumes: Volumes;
  readonly deletions: Deletions;
  /** The export, open; the same one at each call. */
  device(name: string): Promise<BlockDevice>;
  /** No client is left at it. */
  leave(name: string): Promise<void>;
  leaveAll(): Promise<void>;
  /** Everything that was deleted is removed, as far as it can be. */
  settle(): Promise<void>;
  /** A clean stop. */
  stop(): Promise<void>;
}

export async function openWorld(
  disk: Disk,
  wrap: (store: ObjectStore) => ObjectStore = (store) => store,
  clock: Clock = stillClock,
  wrapCoordinator: (coordinator: Coordinator) => Coordinator = (coordinator) => coordinator,
): Promise<FamilyWorld> {
  const options = { disk, directory: STORE, clock, log: silentLog };
  const random = simRandom(1);
  const farm = await openFarm({ ...options, random, checksums: true, limits: ROOMY_LIMITS });
  const coordinator = wrapCoordinator(
    await openLocalCoordinator({ ...options, clusterId: new Uint8Array(16), create: true }),
  );
  const directory = new VdiDirectory(coordinator, clock);
  const store = wrap(farm);
  const deletions = new Deletions(directory, store, clock, silentLog);
  await deletions.takeOver();
  const volumes = new Volumes(directory, store, silentLog);
  const devices = new Map<string, BlockDevice>();
  const leave = async (name: string) => {
    await devices.get(name)?.[Symbol.asyncDispose]();
    devices.delete(name);
  };
  const leaveAll = async () => {
    for (const name of [...devices.keys()]) await leave(name);
  };
  return {
    ...{ farm, directory, volumes, deletions, leave, leaveAll },
    device: async (name) => {
      const device = devices.get(name) ?? (await volumes.open(name, CLIENT));
      if (device === undefined) throw new Error(`there is no ${name}`);
      devices.set(name, device);
      return device;
    },
    settle: async () => {
      for (const record of await directory.deletions()) await deletions.finish(record);
    },
    stop: async () => {
      await leaveAll();
      await volumes[Symbol.asyncDispose]();
      await deletions[Symbol.asyncDispose]();
      await coordinator[Symbol.asyncDispose]();
      await farm[Symbol.asyncDispose]();
    },
  };
}

/** So many blocks full of `value`; 0 is written as zeroes. */
export const filled = (count: number, value: number) =>
  fillBlocks(new Uint8Array(count * BLOCK_BYTES), value);

/**
 * Every block that holds what it may not, as sentences, at most a few; looks where the device says
 * that there is data.
 */
export async function differences(
  device: BlockDevice,
  blocks: number,
  allowed: (block: number) => readonly number[],
): Promise<string[]> {
  const found: string[] = [];
  const { sizeBytes, description } = device.info;
  if (sizeBytes !== blocks * BLOCK_BYTES) {
    found.push(`${description} has ${sizeBytes / BLOCK_BYTES} blocks, must have ${blocks}`);
  }
  const look = (block: number, value: number | undefined) => {
    const values = allowed(block);
    if (value !== undefined && values.includes(value)) return;
    found.push(`${description}: block ${block} holds ${value}, allowed: ${values.join(' ')}`);
  };
  for (let at = 0; at < sizeBytes && found.length < 5; ) {
    for (const { length, zero } of await device.extents(at, sizeBytes - at, 1000)) {
      const first = at / BLOCK_BYTES;
      const count = length / BLOCK_BYTES;
      const bytes = new Uint8Array(zero ? 0 : length);
      if (!zero) await device.read(at, bytes);
      for (let place = 0; place < count; place += 1) {
        const block = bytes.subarray(place * BLOCK_BYTES, (place + 1) * BLOCK_BYTES);
        look(first + place, zero ? 0 : blockValue(block));
      }
      at += length;
    }
  }
  return found.slice(0, 5);
}

/** Every object file of the store. */
export async function objectFiles(disk: Disk): Promise<string[]> {
  const found: string[] = [];
  for (const folder of await disk.list(`${STORE}/obj`)) {
    found.push(...(await disk.list(`${STORE}/obj/${folder}`)));
  }
  return found.sort();
}

/**
 * Object files that nobody can reach, as sentences: space that is lost for good. Asks after all that
 * was deleted is settled; says for itself, from the inodes of the living, what has to be there.
 */
export async function leaks(disk: Disk, { farm, directory }: FamilyWorld): Promise<string[]> {
  const needed = new Set<string>();
  const all = await directory.all();
  for (const record of all) {
    if (isLive(record)) {
      await addNeeded(farm, record, needed);
    }
  }
  const vidOf = (oid: string) => oidParts(BigInt(`0x${oid}`)).vid;
  const ghosts = all.filter(isLeaving);
  for (const ghost of ghosts) {
    // Its inode is how the next sweep finds what it still has.
    const has = [...needed].some((oid) => vidOf(oid) === ghost.vid);
    if (has) for (const name of await ownNodes(farm, ghost)) needed.add(formatOid(name));
  }
  const files = await objectFiles(disk);
  const lost = files.filter((oid) => !needed.has(oid));
  const missing = [...needed].filter((oid) => !files.includes(oid));
  return [
    ...lost.map((oid) => `${oid} is nobody's`),
    ...missing.map((oid) => `${oid} is needed and not there`),
    ...ghosts
      .filter(({ vid }) => !files.some((oid) => vidOf(oid) === vid))
      .map((ghost) => `${exportName(ghost)} (${ghost.vid}) is a record without objects`),
  ];
}

async function addNeeded(farm: Farm, record: VolumeRecord, needed: Set<string>): Promise<void> {
  const { vid, family } = record;
  needed.add(formatOid(rootName(vid, family)));
  const root = await readRoot(farm, record);
  root.forEach((owner, leaf) => {
    if (owner !== 0) needed.add(formatOid(leafName(owner, family, leaf)));
  });
  const inode = await Inode.open(farm, record, plainCall(record));
  const names = new DataNames(family);
  for (let index = 0; index < 64; index += 1) {
    const owner = await inode.owner(index);
    if (owner === 0) continue;
    const name = names.of(owner, index);
    needed.add(formatOid(name));
    for (const source of await farm.sources(name)) {
      if (source !== 0) needed.add(formatOid({ kind: KIND.data, vid: source, index }));
    }
  }
}

async function ownNodes(farm: Farm, record: VolumeRecord): Promise<ObjectName[]> {
  const { vid, family } = record;
  const root = await readRoot(farm, record);
  const leaves = Array.from({ length: LEAVES_MAX }, (_, leaf) => leaf);
  const own = leaves.filter((leaf) => root[leaf] === vid);
  return [rootName(vid, family), ...own.map((leaf) => leafName(vid, family, leaf))];
}
