import koffi from 'koffi';

/** The first file descriptor that is passed on (sd_listen_fds(3)). */
const FIRST_FD = 3;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

type Environment = Readonly<Record<string, string | undefined>>;

/** The listening sockets that a service manager opened for us, as addresses (`fd:3`). */
export function passedSockets(environment: Environment, pid: number): string[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: count } = environment;
  if (forPid !== String(pid) || count === undefined || !/^\d{1,3}$/.test(count)) return [];
  return Array.from({ length: Number(count) }, (_, index) => `fd:${FIRST_FD + index}`);
}

/**
 * Tells the service manager how we are (sd_notify(3)): `READY=1`, `STOPPING=1`. Does nothing where
 * none asked to be told. Node has no datagrams over unix sockets, so these are the system calls.
 * @throws Error if it asked and cannot be told
 */
export function notifyServiceManager(environment: Environment, state: string): void {
  const { NOTIFY_SOCKET: path } = environment;
  if (path === undefined || !/^[@/]/.test(path)) return;
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const sendto = libc.func(
    'intptr_t sendto(int fd, const uint8_t *bytes, size_t length, int flags, ' +
      'const uint8_t *address, uint32_t addressLength)',
  );
  const close = libc.func('int close(int fd)');
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
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, Buffer.from(path.replace(/^@/, '\0'))]);
}
