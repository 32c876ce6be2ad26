import { hostname } from 'node:os';
import { type BackupShape, type BackupStore, openBackups } from '../app/backup/store.ts';
import { plainFacts, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CpuPool } from '../contracts/cpu-pool.ts';
import { nodeClock } from '../host/node-clock.ts';
import { nodeCpuPool } from '../host/node-cpu-pool.ts';
import { nodeDisk } from '../host/node-disk.ts';
import { nodeRandom } from '../host/node-random.ts';
import type { Collie } from './collie-command.ts';

interface StorePlace {
  readonly directory: string;
  /** Makes the store if it is not there. */
  readonly create?: BackupShape;
  /** Names, compresses and proves slices; ends with the work. */
  readonly pool?: CpuPool;
}

/** Runs `work` with the store of backups in a directory. @throws SheepError as `openBackups` */
export async function withBackups<T>(
  collie: Collie,
  { directory, create, pool: begun }: StorePlace,
  work: (store: BackupStore) => Promise<T>,
): Promise<T> {
  // An empty variable of a shell must not mean the root of the file system.
  if (directory === '') throw new SheepError('ERR_BAD_INPUT', 'which directory? It is empty');
  await using pool = begun ?? nodeCpuPool();
  const host = {
    ...{ disk: nodeDisk(), clock: nodeClock(), random: nodeRandom(), pool, log: logOf(collie) },
    holder: { host: hostname(), pid: process.pid },
  };
  await using store = await openBackups(host, directory, create);
  return await work(store);
}

/** What the store finds worth telling, on standard error. */
function logOf({ warn }: Collie): Log {
  return {
    event: (level, name, facts = {}) => {
      if (level !== 'warn' && level !== 'error') return;
      const shown = Object.entries(plainFacts(facts)).map(([key, value]) => `${key} ${value}`);
      warn(`${level}: ${name}: ${shown.join(', ')}`);
    },
  };
}
