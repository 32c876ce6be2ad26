import { KiB } from '../../src/base/units.ts';
import { FARM_LIMITS, type FarmLimits } from '../../src/farm/limits.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import type { SimDiskOptions } from '../../src/sim/sim-disk.ts';
import { scratch } from '../cluster/scratch.ts';
import { objectStoreContract } from '../contracts/object-store.ts';
import type { StoreWorld } from '../contracts/object-store-tools.ts';
import { openStore, SimStore } from '../farm/store.ts';
import { SMALL_LIMITS } from './disk-world.ts';

/** On the disk of this machine. Nothing but a clean stop can be had inside one process. */
async function onThisMachine(limits: FarmLimits): Promise<StoreWorld> {
  const folder = await scratch();
  const disk = nodeDisk();
  let store = await openStore(disk, `${folder.path}/store`, { limits });
  return {
    store,
    stop: async () => {
      await store[Symbol.asyncDispose]();
      store = await openStore(disk, `${folder.path}/store`, { limits });
      return store;
    },
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function simulated(limits: FarmLimits, disk: SimDiskOptions = {}): Promise<StoreWorld> {
  const world = await SimStore.open({ limits, disk });
  return {
    store: world.farm,
    stop: (how) => {
      if (how === 'kill') return world.kill();
      return how === 'power cut' ? world.powerCut() : world.restart();
    },
    [Symbol.asyncDispose]: () => world.farm[Symbol.asyncDispose](),
  };
}

const STOPS = ['clean stop', 'kill', 'power cut'] as const;
/** With the usual journal, every test would write most of all 64 MiB of zeroes. */
const USUAL = { ...FARM_LIMITS, segmentBytes: 4096 * KiB };

objectStoreContract('a store here', () => onThisMachine(USUAL), ['clean stop']);
objectStoreContract('a small store here', () => onThisMachine(SMALL_LIMITS), ['clean stop']);
objectStoreContract('a simulated store', () => simulated(USUAL), STOPS);
objectStoreContract('a small simulated store', () => simulated(SMALL_LIMITS), STOPS);
objectStoreContract(
  'a store of which nothing is cached',
  () => simulated(SMALL_LIMITS, { cached: () => false }),
  STOPS,
);
