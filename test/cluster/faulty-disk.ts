import type { Disk, DiskFile } from '../../src/contracts/disk.ts';

/** What is asked before an operation on an open file; throwing makes it fail, undone. */
export type Interference = (
  operation: 'write' | 'sync' | 'zero',
  path: string,
  /** What is to be written. */
  from?: Uint8Array,
) => void;

/** A disk whose files ask first. */
export function faultyDisk(inner: Disk, interfere: Interference): Disk {
  const wrapped = (file: DiskFile, path: string): DiskFile => ({
    readNow: (at, into) => file.readNow(at, into),
    read: (at, into) => file.read(at, into),
    writeNow: (at, from) => {
      interfere('write', path, from);
      file.writeNow(at, from);
    },
    write: async (at, from) => {
      interfere('write', path, from);
      await file.write(at, from);
    },
    sync: async () => {
      interfere('sync', path);
      await file.sync();
    },
    beginSyncNow: (at, length) => file.beginSyncNow(at, length),
    punch: (at, length) => file.punch(at, length),
    zero: async (at, length) => {
      interfere('zero', path);
      await file.zero(at, length);
    },
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    size: () => file.size(),
    closeNow: () => file.closeNow(),
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  });
  return { ...inner, open: async (path, mode) => wrapped(await inner.open(path, mode), path) };
}
