import { silentLog } from '../../src/base/log.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Farm } from '../../src/farm/farm.ts';
import { openFarm } from '../../src/farm/open-farm.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { nodeRandom } from '../../src/host/node-random.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';

/** A store with its directory, below the parts that these tests are about. */
export async function openTestStore(path: string) {
  await using owned = new AsyncDisposableStack();
  const host = { disk: nodeDisk(), clock: nodeClock(), random: nodeRandom(), log: silentLog };
  const farm: Farm = owned.use(await openFarm({ directory: path, checksums: true, ...host }));
  const coordinator = owned.use(
    await openLocalCoordinator({
      ...host,
      directory: path,
      clusterId: new Uint8Array(16),
      create: true,
    }),
  );
  const held = owned.move();
  return {
    farm,
    directory: new VdiDirectory(coordinator, host.clock),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A store that asks before each operation; throwing makes it fail. */
export function askingStore(
  inner: ObjectStore,
  ask: (operation: 'flush' | 'remove' | 'write') => void,
): ObjectStore {
  return {
    read: (name, at, into, call) => inner.read(name, at, into, call),
    write: (name, at, from, call) => {
      ask('write');
      return inner.write(name, at, from, call);
    },
    zero: (name, at, length, call) => inner.zero(name, at, length, call),
    announce: (names, objectBytes, call) => inner.announce(names, objectBytes, call),
    owned: (name) => inner.owned(name),
    unsettled: (vid) => inner.unsettled(vid),
    remove: (name, call) => {
      ask('remove');
      return inner.remove(name, call);
    },
    flush: (vid, only, call) => {
      ask('flush');
      return inner.flush(vid, only, call);
    },
    sources: (name) => inner.sources(name),
    extents: (name, at, length) => inner.extents(name, at, length),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
}
