import type { Disk, DiskFile } from '../../src/contracts/disk.ts';

/** A sync of the code: the call that makes it, and the function that it is called from. */
export interface SyncSite {
  readonly call: 'sync' | 'syncDirectory' | 'syncAll';
  /** As it stands in a stack trace. */
  readonly from: string;
  /** Only of paths that end in this. */
  readonly path?: string;
}

/** The disk with one sync of the code left out: it answers at once and does nothing. */
export function withoutSync(disk: Disk, site: SyncSite, skipped: () => void): Disk {
  const leftOut = (call: SyncSite['call'], path: string): boolean => {
    if (call !== site.call || !path.endsWith(site.path ?? '')) return false;
    const callers = new Error('who calls').stack?.split('\n').slice(3, 7).join('\n') ?? '';
    if (!callers.includes(site.from)) return false;
    skipped();
    return true;
  };
  const file = (inner: DiskFile, path: string): DiskFile => ({
    readNow: (at, into) => inner.readNow(at, into),
    read: (at, into) => inner.read(at, into),
    writeNow: (at, from) => inner.writeNow(at, from),
    write: (at, from) => inner.write(at, from),
    sync: () => (leftOut('sync', path) ? Promise.resolve() : inner.sync()),
    beginSyncNow: (at, length) => inner.beginSyncNow(at, length),
    punch: (at, length) => inner.punch(at, length),
    zero: (at, length) => inner.zero(at, length),
    truncate: (sizeBytes) => inner.truncate(sizeBytes),
    size: () => inner.size(),
    closeNow: () => inner.closeNow(),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  });
  return {
    open: async (path, mode) => file(await disk.open(path, mode), path),
    openCachedNow: (path) => {
      const found = disk.openCachedNow(path);
      return found && file(found, path);
    },
    rename: (from, to) => disk.rename(from, to),
    remove: (path) => disk.remove(path),
    makeDirectory: (path) => disk.makeDirectory(path),
    list: (path) => disk.list(path),
    permissions: (path) => disk.permissions(path),
    exists: (path) => disk.exists(path),
    syncDirectory: (path) =>
      leftOut('syncDirectory', path) ? Promise.resolve() : disk.syncDirectory(path),
    syncAll: (path) => (leftOut('syncAll', path) ? Promise.resolve() : disk.syncAll(path)),
    lock: (path) => disk.lock(path),
    space: (path) => disk.space(path),
    bootId: () => disk.bootId(),
  };
}
