import koffi from 'koffi';

/** The first file descriptor that is passed on (sd_listen_fds(3)). */
const FIRST_FD = 3;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** struct sockaddr_storage, and the family at its beginning. */
const ADDRESS_BYTES = 128;
const FAMILY_BYTES = 2;
const US_PER_MS = 1000;

type Environment = Readonly<Record<string, string | undefined>>;

/** A listening socket that a service manager opened for us. */
export interface PassedSocket {
  readonly fd: number;
  /** As the manager calls it (`FileDescriptorName=` of its unit); empty if it does not. */
  readonly name: string;
}

/** Those that were passed to this process (sd_listen_fds_with_names(3)). */
export function passedSockets(environment: Environment, pid: number): PassedSocket[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: count, LISTEN_FDNAMES: names = '' } = environment;
  if (forPid !== String(pid) || count === undefined || !/^\d{1,3}$/.test(count)) return [];
  const named = names.split(':');
  return Array.from({ length: Number(count) }, (_, index) => ({
    fd: FIRST_FD + index,
    name: named[index] ?? '',
  }));
}

/**
 * How often the manager wants to hear `WATCHDOG=1`, else it takes us for hung and starts us anew;
 * undefined if it does not (sd_watchdog_enabled(3)). It waits twice as long.
 */
export function watchdogMs(environment: Environment, pid: number): number | undefined {
  const { WATCHDOG_USEC: timeout, WATCHDOG_PID: forPid = String(pid) } = environment;
  if (forPid !== String(pid) || timeout === undefined || !/^[1-9]\d{0,15}$/.test(timeout)) {
    return undefined;
  }
  return Math.max(1, Math.floor(Number(timeout) / US_PER_MS / 2));
}

/** The system calls for what Node has not: datagrams over unix sockets, and what a descriptor is. */
function openLibc() {
  const libc = koffi.load(null);
  return {
    socket: libc.func('int socket(int domain, int type, int protocol)'),
    sendto: libc.func(
      'intptr_t sendto(int fd, const uint8_t *bytes, size_t length, int flags, ' +
        'const uint8_t *address, uint32_t addressLength)',
    ),
    getsockname: libc.func('int getsockname(int fd, uint8_t *address, uint32_t *length)'),
    close: libc.func('int close(int fd)'),
  };
}
let opened: ReturnType<typeof openLibc> | undefined;
function libc() {
  opened ??= openLibc();
  return opened;
}

/**
 * Where the unix socket `fd` is bound, `@` for the zero byte of an abstract name; undefined if it is
 * no unix socket. (Node tells no name of a socket that it has not bound itself.)
 */
export function unixSocketPath(fd: number): string | undefined {
  const address = Buffer.alloc(ADDRESS_BYTES);
  const length = Uint32Array.of(ADDRESS_BYTES);
  if (libc().getsockname(fd, address, length) !== 0) return undefined;
  if (address.readUInt16LE(0) !== AF_UNIX) return undefined;
  const path = address.toString('utf8', FAMILY_BYTES, Math.min(length[0] ?? 0, ADDRESS_BYTES));
  return path.startsWith('\0') ? `@${path.slice(1)}` : path.replace(/\0.*$/s, '');
}

/**
 * Tells the service manager how we are (sd_notify(3)): `READY=1`, `STOPPING=1`. Does nothing where
 * none asked to be told.
 * @throws Error if it asked and cannot be told
 */
export function notifyServiceManager(environment: Environment, state: string): void {
  const { NOTIFY_SOCKET: path } = environment;
  if (path === undefined || !/^[@/]/.test(path)) return;
  const { socket, sendto, close } = libc();
  const fd: number = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Error(`no socket for NOTIFY_SOCKET: errno ${koffi.errno()}`);
  try {
    const bytes = Buffer.from(state);
    const address = unixAddress(path);
    if (sendto(fd, bytes, bytes.length, 0, address, address.length) < 0) {
      throw new Error(`nobody takes messages at NOTIFY_SOCKET ${path}: errno ${koffi.errno()}`);
    }
  } finally {
    close(fd);
  }
}

/** struct sockaddr_un; `@` stands for the zero byte with which an abstract name begins. */
function unixAddress(path: string): Buffer {
  const family = Buffer.alloc(FAMILY_BYTES);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, Buffer.from(path.replace(/^@/, '\0'))]);
}
