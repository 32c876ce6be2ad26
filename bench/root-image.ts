import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../src/base/units.ts';
import type { Children } from './children.ts';
import type { Scope } from './scope.ts';

/** What a Debian root file system consists of, nearly; parts of it for short runs. */
const TREES = ['/usr', '/usr/share', '/usr/include', '/usr/sbin'];
/** Of what the files take, for inodes, journal and the ends of blocks. */
const ROOM = 1.3;

/**
 * An ext4 image with this machine's /usr, or of a part of it where that does not fit, made once
 * beside the directory of the benchmark's scope and kept there for the next run. @returns its path
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
    const tree = await largestThatFits(children, sizeBytes);
    say(`making an image of ${tree}: ${path}`);
    const draft = `${path}.draft`;
    const size = `${Math.ceil(sizeBytes / MiB)}M`;
    const extended = 'lazy_itable_init=1,hash_seed=00000000-0000-4000-8000-000000000000';
    await children.run('rm', ['-f', draft]);
    await children.run('mke2fs', ['-q', '-t', 'ext4', '-E', extended, '-d', tree, draft, size]);
    await children.run('mv', [draft, path]);
  }
  const { blocks } = await stat(path);
  say(`${path}: ${Math.round((blocks * 512) / MiB)} MiB of data`);
  return path;
}

async function largestThatFits(children: Children, sizeBytes: number): Promise<string> {
  for (const tree of TREES) {
    const [kib] = (await children.run('du', ['-skx', tree])).split(/\s/, 1);
    if (Number(kib) * KiB * ROOM < sizeBytes) return tree;
  }
  throw new Error(`--size is too small for any of ${TREES.join(', ')}`);
}
