import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../src/base/units.ts';
import type { Scope } from './scope.ts';

/** What a Debian root file system consists of, nearly. */
const ROOT = '/usr';

/**
 * An ext4 image with this machine's /usr, made once under the directory of the benchmark's scope
 * and kept beside it for the next run. @returns its path
 */
export async function rootImage(
  { children, directory }: Scope,
  sizeBytes: number,
  say: (line: string) => void,
): Promise<string> {
  const path = join(directory, '..', `sheepdog-bench-usr-${sizeBytes / MiB}.img`);
  try {
    await access(path);
  } catch {
    say(`making an image of ${ROOT}: ${path}`);
    const draft = `${path}.draft`;
    const size = `${Math.ceil(sizeBytes / MiB)}M`;
    const extended = 'lazy_itable_init=1,hash_seed=00000000-0000-4000-8000-000000000000';
    await children.run('rm', ['-f', draft]);
    await children.run('mke2fs', ['-q', '-t', 'ext4', '-E', extended, '-d', ROOT, draft, size]);
    await children.run('mv', [draft, path]);
  }
  const { blocks } = await stat(path);
  say(`${path}: ${Math.round((blocks * 512) / MiB)} MiB of data`);
  return path;
}
