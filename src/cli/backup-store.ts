import { hostname } from 'node:os';
import { type BackupShape, type BackupStore, openBackups } from '../app/backup/store.ts';
import { plainFacts, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { nodeClock } from '../host/node-clock.ts';
import { nodeCpuPool } from '../host/node-cpu-pool.ts';
import { nodeDisk } from '../host/node-disk.ts';
import { nodeRandom } from '../host/node-random.ts';
import type { Collie } from './collie-command.ts';

/** The argument of every command on backups. */
export const DIRECTORY = ['<directory>', 'the store of backups'] as const;
/** The argument of those on one of them. */
export const ID = ['<id>', 'the beginning of the ID of a backup, or its tag'] as const;

/**
 * Runs `work` with the store of backups in a directory.
 * @param create  makes it if it is not there
 * @throws SheepError as `openBackups`
 */
export async function withBackups<T>(
  collie: Collie,
  directory: string,
  create: BackupShape | undefined,
  work: (store: BackupStore) => Promise<T>,
): Promise<T> {
  // An empty variable of a shell must not mean the root of the file system.
  if (directory === '') throw new SheepError('ERR_BAD_INPUT', 'which directory? It is empty');
  await using pool = nodeCpuPool();
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
