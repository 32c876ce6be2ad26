import { execFileSync } from 'node:child_process';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Scope } from './scope.ts';

/** How long a restore took, and how long with a sync of what was written. */
export interface Restored {
  readonly ms: number;
  readonly stableMs: number;
}

/** A repository of restic's, with its cache beside it, and the defaults for all else. */
export interface ResticRepository {
  readonly directory: string;
  /** Backs a file up. @returns how long that took, the program's start included */
  backup(file: string): Promise<number>;
  /** Writes the latest state of a file to a new one, and removes that, unmeasured. */
  restore(file: string): Promise<Restored>;
  /** Reads and proves everything. */
  check(): Promise<number>;
  remove(): Promise<void>;
}

/** @throws Error that says how to get restic */
export async function resticRepository(scope: Scope, name: string): Promise<ResticRepository> {
  resticVersion();
  const place = join(scope.directory, `restic-${name}`);
  const directory = join(place, 'repository');
  const password = join(place, 'password');
  await mkdir(place, { recursive: true });
  await writeFile(password, 'bench', { mode: 0o600 });
  const options = ['-q', '-r', directory, '-p', password, '--cache-dir', join(place, 'cache')];
  const restic = async (...args: string[]) => {
    const began = performance.now();
    await scope.children.run('restic', [...options, ...args]);
    return performance.now() - began;
  };
  await restic('init');
  return {
    directory,
    backup: (file) => restic('backup', file),
    restore: async (file) => {
      const target = join(place, 'restored');
      const began = performance.now();
      const ms = await restic('restore', 'latest', '--target', target, '--include', file);
      await scope.children.run('sync', ['-f', target]);
      const stableMs = performance.now() - began;
      await rm(target, { recursive: true });
      return { ms, stableMs };
    },
    check: () => restic('check', '--read-data'),
    remove: () => rm(place, { recursive: true, force: true }),
  };
}

/** @throws Error that says how to get it */
export function resticVersion(): string {
  try {
    return execFileSync('restic', ['version'], { encoding: 'utf8' }).split(' compiled', 1)[0] ?? '';
  } catch {
    throw new Error('restic is what this compares with: apt-get install restic');
  }
}

/** What the files of a directory hold, all together. */
export async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  let bytes = 0;
  for (const entry of entries) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
