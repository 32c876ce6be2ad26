import { SheepError } from './errors.ts';

/** Where a socket listens or is dialled. */
export type Where =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }
  /** A listening socket that the service manager opened and passed on. */
  | { readonly fd: number };

/** The kernel's limit; Node would cut a longer path silently. */
const UNIX_PATH_BYTES_MAX = 107;

/**
 * Reads `host:port`, `[v6]:port`, `unix:PATH` or `fd:NUMBER`.
 * @throws SheepError `ERR_BAD_INPUT`
 */
export function parseAddress(address: string): Where {
  const bad = (why: string) =>
    new SheepError('ERR_BAD_INPUT', `${JSON.stringify(address)} is no address: ${why}`, {
      address,
    });
  if (address.startsWith('unix:')) {
    const path = address.slice('unix:'.length);
    const bytes = new TextEncoder().encode(path).length;
    if (bytes < 1 || bytes > UNIX_PATH_BYTES_MAX || path.includes('\0')) {
      throw bad(`a unix socket needs a path of 1 to ${UNIX_PATH_BYTES_MAX} bytes`);
    }
    return { path };
  }
  const fd = /^fd:(\d{1,4})$/.exec(address)?.[1];
  if (fd !== undefined) return { fd: Number(fd) };
  const parts = /^(?:\[([0-9a-f:.]+(?:%\w+)?)\]|([^:[\]/\s]+)):(\d{1,5})$/i.exec(address);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  if (host === undefined) throw bad('give host:port, [v6]:port or unix:PATH');
  if (port > 65_535) throw bad('a port is at most 65535');
  return { host, port };
}

/**
 * An address where the admin API is asked: `https://host:port` is inside TLS.
 * @throws SheepError `ERR_BAD_INPUT`
 */
export function parseAdminAddress(address: string): {
  readonly tls: boolean;
  readonly where: Where;
} {
  const inside = /^https:\/\/(.*)$/s.exec(address)?.[1];
  if (inside === undefined) return { tls: false, where: parseAddress(address) };
  const where = parseAddress(inside.replace(/\/$/, ''));
  if ('host' in where) return { tls: true, where };
  const message = `${JSON.stringify(address)} is no address: give https://host:port`;
  throw new SheepError('ERR_BAD_INPUT', message, { address });
}

export function formatAddress(where: Where): string {
  if ('path' in where) return `unix:${where.path}`;
  return 'fd' in where ? `fd:${where.fd}` : formatHostPort(where.host, where.port);
}

export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * True if only programs of this machine can reach it. A name other than `localhost` may resolve to
 * anything, so it is not local.
 */
export function isLocal(where: { readonly path: string } | { readonly host: string }): boolean {
  if ('path' in where) return true;
  return /^(?:localhost|::1|(?:::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3})$/i.test(where.host);
}
