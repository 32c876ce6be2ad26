import { getSystemErrorName } from 'node:util';
import koffi, { type KoffiFunc } from 'koffi';

/**
 * The system calls that Node lacks. Those that may wait for the medium run in Node's thread pool;
 * the others return at once. Failures have the shape of Node's own: `code`, `errno`, `syscall`.
 */

/** What Node itself is linked with. */
const libc = koffi.load(null);

/** fallocate(2). The size of the file stays with `keepSize`. */
export const FALLOCATE = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

/** lseek(2). `data` and `hole`: the first byte of such from the given one on. */
export const SEEK = { current: 1, end: 2, data: 3, hole: 4 } as const;

const RWF_NOWAIT = 8;
const SYNC_FILE_RANGE_WRITE = 2;
const LOCK_EX = 2;
const LOCK_NB = 4;

const { EAGAIN, EINTR, EINVAL, ENOSYS, EOPNOTSUPP } = koffi.os.errno;

type Address = number | bigint;
const rawPreadv2: (fd: number, iovec: Address, count: number, at: number, flags: number) => number =
  libc.func('intptr_t preadv2(int fd, uintptr_t iovec, int count, int64_t at, int flags)');
const rawFlock: (fd: number, operation: number) => number = libc.func(
  'int flock(int fd, int operation)',
);
const rawFallocate: KoffiFunc<(fd: number, mode: number, at: number, length: number) => number> =
  libc.func('int fallocate(int fd, int mode, int64_t at, int64_t length)');
const rawLseek: KoffiFunc<(fd: number, offset: number, whence: number) => number> = libc.func(
  'int64_t lseek(int fd, int64_t offset, int whence)',
);
const rawSyncFileRange: (fd: number, at: number, length: number, flags: number) => number =
  libc.func('int sync_file_range(int fd, int64_t at, int64_t length, unsigned int flags)');
/** The C library has no function for openat2; its number is the same on every architecture. */
const OPENAT2 = 437;
const rawOpenat2: (
  number: number,
  directory: number,
  path: Address,
  how: Address,
  howBytes: number,
) => number = libc.func(
  'int64_t syscall(int64_t number, int64_t directory, uintptr_t path, uintptr_t how, size_t bytes)',
);
const rawSyncfs: KoffiFunc<(fd: number) => number> = libc.func('int syncfs(int fd)');

/** The next byte would have to come from the medium. */
const NOT_CACHED = -1;
/** This file system or kernel cannot tell what it has cached. */
export const NOT_SUPPORTED = -2;

/**
 * One struct iovec, filled anew for each call. Calls with addresses as plain numbers are the fastest
 * that koffi has: no pointer is looked up and no bigint is made. User space addresses have 47 bits.
 */
const iovec = new Uint32Array(4);
const iovecAddress = Number(koffi.address(iovec.buffer));

/** Where the memory of a buffer begins; it never moves, and most requests use the same few. */
const baseAddresses = new WeakMap<ArrayBufferLike, number>();

function baseAddress(buffer: ArrayBufferLike): number {
  let base = baseAddresses.get(buffer);
  if (base === undefined) {
    base = Number(koffi.address(buffer));
    baseAddresses.set(buffer, base);
  }
  return base;
}

/**
 * preadv2(2) with RWF_NOWAIT: fills `into` from byte `skip` on and returns how many bytes came
 * without waiting for the medium (0 at the end of the file); -1 if the first of them would have to
 * wait, or `NOT_SUPPORTED`.
 */
export function readCached(fd: number, at: number, into: Uint8Array, skip: number): number {
  const address = baseAddress(into.buffer) + into.byteOffset + skip;
  iovec[0] = address;
  iovec[1] = address / 2 ** 32;
  iovec[2] = into.length - skip;
  for (;;) {
    const got = rawPreadv2(fd, iovecAddress, 1, at, RWF_NOWAIT);
    if (got >= 0) return got;
    const errno = koffi.errno();
    if (errno === EAGAIN) return NOT_CACHED;
    if (errno === EOPNOTSUPP || errno === ENOSYS) return NOT_SUPPORTED;
    if (errno !== EINTR) throw systemError('preadv2', errno);
  }
}

const AT_FDCWD = -100;
const RESOLVE_CACHED = 0x20n;
const PATH_BYTES_MAX = 4096;
/** struct open_how: flags, mode, resolve. */
const openHow = new BigUint64Array([0n, 0n, RESOLVE_CACHED]);
const openHowAddress = Number(koffi.address(openHow.buffer));
const pathBytes = new Uint8Array(PATH_BYTES_MAX);
const pathAddress = Number(koffi.address(pathBytes.buffer));
const encoder = new TextEncoder();
let opensCached = true;

/**
 * openat2(2) with RESOLVE_CACHED: a descriptor if the name is in the kernel's lookup cache, so that
 * nothing is asked of the medium; else -1, whatever the reason.
 */
export function openCached(path: string, flags: number): number {
  if (!opensCached) return -1;
  const { read, written } = encoder.encodeInto(path, pathBytes);
  if (read < path.length || written === PATH_BYTES_MAX) return -1;
  pathBytes[written] = 0;
  openHow[0] = BigInt(flags);
  const fd = rawOpenat2(OPENAT2, AT_FDCWD, pathAddress, openHowAddress, openHow.byteLength);
  if (fd >= 0) return fd;
  // Before Linux 5.12.
  const errno = koffi.errno();
  if (errno === ENOSYS || errno === EINVAL) opensCached = false;
  return -1;
}

/** An exclusive flock(2), or at once an error with `code` EAGAIN where another has it. */
export function lockNow(fd: number): void {
  while (rawFlock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const errno = koffi.errno();
    if (errno !== EINTR) throw systemError('flock', errno);
  }
}

/** fallocate(2); `mode` is a sum of `FALLOCATE`. */
export async function fallocate(
  fd: number,
  mode: number,
  at: number,
  length: number,
): Promise<void> {
  await inPool('fallocate', (done) => rawFallocate.async(fd, mode, at, length, done));
}

/** fallocate(2) of memory, which waits for no medium. */
export function allocateNow(fd: number, at: number, length: number): void {
  while (rawFallocate(fd, 0, at, length) !== 0) {
    const errno = koffi.errno();
    if (errno !== EINTR) throw systemError('fallocate', errno);
  }
}

/**
 * lseek(2), with one of `SEEK`; returns the byte it found. It moves the place of the descriptor, so
 * use it only where everything is read by its offset. ENXIO: no data behind `offset`; ESPIPE: a pipe.
 */
export function lseek(fd: number, offset: number, whence: number): Promise<number> {
  return inPool('lseek', (done) => rawLseek.async(fd, offset, whence, done));
}

/**
 * sync_file_range(2) that only begins: a hint, so what it answers is not asked. A failure of the
 * medium stays with the file and is told by the next fdatasync.
 */
export function beginWriteback(fd: number, at: number, length: number): void {
  rawSyncFileRange(fd, at, length, SYNC_FILE_RANGE_WRITE);
}

/** syncfs(2): everything on the file system that `fd` is on. */
export async function syncFileSystem(fd: number): Promise<void> {
  await inPool('syncfs', (done) => rawSyncfs.async(fd, done));
}

type Done = (failure: unknown, result: number) => void;

/** koffi refuses more than 256 at a time, and Node's pool has 4 threads; the others queue here. */
const POOL_CALLS_MAX = 64;
let poolCalls = 0;
const queued: (() => void)[] = [];

/** What the call returned, which is not negative. */
async function inPool(syscall: string, start: (done: Done) => void): Promise<number> {
  if (poolCalls < POOL_CALLS_MAX) poolCalls += 1;
  else await new Promise<void>((resolve) => queued.push(resolve));
  try {
    let result = await resultOf(start);
    while (-result === EINTR) result = await resultOf(start);
    if (result < 0) throw systemError(syscall, -result);
    return result;
  } finally {
    const next = queued.shift();
    if (next) next();
    else poolCalls -= 1;
  }
}

/** -errno if it failed. koffi hands the errno of the pool's thread over to the callback alone. */
function resultOf(start: (done: Done) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    start((failure, result) => {
      if (failure) reject(failure);
      else resolve(result < 0 ? -koffi.errno() : result);
    });
  });
}

export function systemError(syscall: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${syscall}`), { code, errno: -errno, syscall });
}
