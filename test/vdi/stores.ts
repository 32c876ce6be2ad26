import type { ObjectName } from '../../src/base/ids.ts';
import { KiB } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { FarmLimits } from '../../src/farm/limits.ts';
import { makeVolume, openVolume } from '../../src/vdi/open-volume.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';
import { DIRECTORY, SimStore, type StoreOptions } from '../farm/store.ts';

export const VID = 5;

/** Small objects, so that requests span several and trims free whole ones. */
export function recordOf(more: Partial<VolumeRecord> = {}): VolumeRecord {
  return {
    name: 'disk',
    vid: VID,
    family: VID,
    parent: 0,
    tag: '',
    shrunkFromBytes: 0,
    sizeBytes: 10 * 32 * KiB,
    objectBytes: 32 * KiB,
    attachEpoch: 1,
    createdMs: 0,
    allow: ['default'],
    state: 'ready',
    ...more,
  };
}

/** For what makes many objects: nothing is evicted or synced all the time. */
export const ROOMY_LIMITS: FarmLimits = {
  ...SMALL_LIMITS,
  segmentBytes: 1024 * KiB,
  openObjects: 64,
  unsyncedObjects: 512,
  listedObjects: 4096,
};

export type StoreOperation = 'read' | 'write' | 'zero' | 'remove' | 'flush' | 'announce';
/** Asked before each operation; what it throws is what the operation fails with. */
export type StoreFault = (operation: StoreOperation, names: readonly ObjectName[]) => void;

/** The store, with a hook before each of its operations. */
export function hooked(store: ObjectStore, before: StoreFault): ObjectStore {
  return {
    read: (name, at, into, call) => {
      before('read', [name]);
      return store.read(name, at, into, call);
    },
    write: (name, at, from, call) => {
      before('write', [name]);
      return store.write(name, at, from, call);
    },
    zero: (name, at, length, call) => {
      before('zero', [name]);
      return store.zero(name, at, length, call);
    },
    announce: async (names, objectBytes, call) => {
      before('announce', names);
      return store.announce(names, objectBytes, call);
    },
    owned: (name) => store.owned(name),
    unsettled: (vid) => store.unsettled(vid),
    remove: (name, call) => {
      before('remove', [name]);
      return store.remove(name, call);
    },
    flush: async (vid, only, call) => {
      before('flush', only ?? []);
      return store.flush(vid, only, call);
    },
    sources: (name) => store.sources(name),
    extents: (name, at, length) => store.extents(name, at, length),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/** An empty disk on a store of its own, attached; `open` attaches it anew. */
export async function made({
  record = recordOf(),
  ...options
}: Pick<StoreOptions, 'disk' | 'limits'> & { readonly record?: VolumeRecord } = {}) {
  const store = await SimStore.open(options);
  await makeVolume({ store: store.farm, record });
  let attachEpoch = 0;
  const open = (over: ObjectStore = store.farm) => {
    attachEpoch += 1;
    return openVolume({ store: over, record: { ...record, attachEpoch } });
  };
  return { store, open, volume: await open() };
}

export async function read(volume: Volume, at: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  await volume.read(at, into);
  return into;
}

/** The data objects that have a file. */
export async function objects({ disk }: SimStore): Promise<number[]> {
  const found: number[] = [];
  for (const folder of await disk.list(`${DIRECTORY}/obj`)) {
    for (const oid of await disk.list(`${DIRECTORY}/obj/${folder}`)) {
      if (oid.startsWith('0')) found.push(Number.parseInt(oid.slice(-7), 16));
    }
  }
  return found.sort((a, b) => a - b);
}
