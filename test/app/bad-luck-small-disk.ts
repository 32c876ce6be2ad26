import { mkdir, open, rm } from 'node:fs/promises';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { scratch } from '../cluster/scratch.ts';
import { succeed } from './daemon.ts';

/**
 * True where a file system in a file can be made and mounted.
 * @throws Error where CI is set: there a test that does not run is a failure
 */
export function canMount(): boolean {
  if (!hasTool('mkfs.ext4') || !hasTool('losetup')) return false;
  if (process.getuid?.() === 0) return true;
  if (process.env['CI'] === 'true') throw new Error('only root can mount a small file system');
  return false;
}

/** An ext4 of its own, of so many bytes; unmounted and removed whatever happens. */
export async function smallDisk(
  sizeBytes: number,
): Promise<AsyncDisposable & { readonly path: string }> {
  await using owned = new AsyncDisposableStack();
  const directory = owned.use(await scratch());
  const [image, path] = [`${directory.path}/image`, `${directory.path}/disk`];
  await using file = await open(image, 'wx');
  await file.truncate(sizeBytes);
  await succeed(findTool('mkfs.ext4') ?? 'mkfs.ext4', ['-q', image]);
  await mkdir(path);
  await succeed('mount', ['-o', 'loop', image, path]);
  owned.defer(async () => {
    // Whoever still uses it keeps it until he ends; nothing of it is removed through this path.
    await succeed('umount', [path]).catch(() => succeed('umount', ['--lazy', path]));
  });
  await rm(`${path}/lost+found`, { recursive: true });
  const held = owned.move();
  return { path, [Symbol.asyncDispose]: () => held.disposeAsync() };
}
