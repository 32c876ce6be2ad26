import * as fs from 'node:fs';
import {
  access,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import type { Disk, OpenMode } from '../contracts/disk.ts';
import { attempt, diskError, systemCode } from './disk-error.ts';
import { NodeFile, settled } from './node-file.ts';
import { permissionsOf } from './permissions.ts';
import { lockNow, openCached, syncFileSystem } from './syscalls.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_RDONLY, O_RDWR, O_TRUNC } = fs.constants;
/** Node sets it by itself, and has no name for it. */
const O_CLOEXEC = 0o2000000;

/** The store holds people's disks: only the user of the daemon may read them. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/**
 * The disk of this machine, through node:fs and the calls of syscalls.ts.
 * @param synced  is told how long each sync of a file has taken
 */
export function nodeDisk(synced: (durationMs: number) => void = () => undefined): Disk {
  return {
    open: (path, mode) =>
      attempt('open', path, async () => new NodeFile(await openQuietly(path, mode), path, synced)),
    openCachedNow: (path) => {
      const fd = openCached(path, O_RDWR | O_NOATIME | O_CLOEXEC);
      return fd < 0 ? undefined : new NodeFile(fd, path, synced);
    },
    rename: (from, to) => attempt('rename', from, () => rename(from, to)),
    remove: (path) => attempt('remove', path, () => unlink(path)),
    makeDirectory: (path) =>
      attempt('make directory', path, async () => {
        await mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
      }),
    list: (path) =>
      attempt('list', path, async () => {
        const names = await unlessMissing(readdir(path), []);
        return names.toSorted();
      }),
    permissions: (path) => attempt('look at', path, async () => permissionsOf(await stat(path))),
    exists: (path) => attempt('find', path, () => unlessMissing(access(path).then(yes), false)),
    syncDirectory: (path) =>
      attempt('sync directory', path, () =>
        withDirectory(path, O_DIRECTORY, (fd) => settled((done) => fs.fsync(fd, done))),
      ),
    syncAll: (path) => attempt('sync all of', path, () => withDirectory(path, 0, syncFileSystem)),
    lock: async (path) => {
      const file = attemptNow('lock', path, () => {
        const fd = fs.openSync(path, O_RDWR | O_CREAT, FILE_MODE);
        try {
          lockNow(fd);
        } catch (error) {
          fs.closeSync(fd);
          throw error;
        }
        return new NodeFile(fd, path, synced);
      });
      return { [Symbol.asyncDispose]: () => file[Symbol.asyncDispose]() };
    },
    space: (path) =>
      attempt('measure', path, async () => {
        const { bsize, blocks, bavail } = await statfs(path);
        return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
      }),
    bootId: () => attempt('read', BOOT_ID, async () => (await readFile(BOOT_ID, 'latin1')).trim()),
  };
}

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
const yes = () => true;

/** Nobody asks when an object was last read, and to keep it costs part of each read. */
async function openQuietly(path: string, mode?: OpenMode): Promise<number> {
  const flags = openFlags(mode);
  try {
    return await openDescriptor(path, flags | O_NOATIME);
  } catch (error) {
    // Files of another user's: only their owner may ask for it.
    if (systemCode(error) !== 'EPERM') throw error;
    return openDescriptor(path, flags);
  }
}

function openDescriptor(path: string, flags: number): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    fs.open(path, flags, FILE_MODE, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

function openFlags({ readOnly, create, exclusive, truncate }: OpenMode = {}): number {
  if (readOnly) return O_RDONLY;
  assert(create || !exclusive, 'only what is created can be exclusive');
  return O_RDWR | (create ? O_CREAT : 0) | (exclusive ? O_EXCL : 0) | (truncate ? O_TRUNC : 0);
}

async function withDirectory(
  path: string,
  flags: number,
  act: (fd: number) => Promise<void>,
): Promise<void> {
  await using directory = await open(path, O_RDONLY | flags);
  await act(directory.fd);
}

async function unlessMissing<T>(found: Promise<T>, missing: T): Promise<T> {
  try {
    return await found;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return missing;
    throw error;
  }
}

function attemptNow<T>(operation: string, path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw diskError(error, operation, path);
  }
}
