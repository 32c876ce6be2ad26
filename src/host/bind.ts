import { chmod, chown, lstat, readFile, unlink } from 'node:fs/promises';
import { createConnection, type Server } from 'node:net';
import { formatAddress, formatHostPort, parseAddress, type Where } from '../base/address.ts';
import { SheepError } from '../base/errors.ts';
import type { Address, ListenOptions } from '../contracts/net.ts';
import { unixSocketPath } from './systemd.ts';

/**
 * Connections that wait to be accepted; Linux allows no more unless told so. Above it a connect to a
 * unix socket fails at once, and over TCP it is tried again a second later.
 */
const BACKLOG = 4096;

/**
 * Lets any server of Node's listen, as `Net.listen` says it: a unix socket that nobody answers on
 * any more is replaced, and has its mode and group before anybody can connect.
 * @returns the address in use, with the real port
 */
export async function bindServer(
  server: Server,
  address: Address,
  { unixMode = 0o600, unixGroup }: Pick<ListenOptions, 'unixMode' | 'unixGroup'> = {},
): Promise<Address> {
  const where = parseAddress(address);
  const group = unixGroup === undefined ? undefined : await groupId(unixGroup);
  try {
    await tryBind(server, where);
  } catch (cause) {
    if (codeOf(cause) !== 'EADDRINUSE') {
      throw new SheepError('ERR_IO', `cannot listen on ${address}`, { address }, cause);
    }
    if (!('path' in where) || !(await isLeftOver(where.path))) {
      throw new SheepError(
        'ERR_BUSY',
        `somebody listens on ${address} already; stop it, or give another address`,
        { address },
        cause,
      );
    }
    await unlink(where.path);
    await tryBind(server, where);
  }
  if ('path' in where) {
    if (group !== undefined) await chown(where.path, -1, group);
    await chmod(where.path, unixMode);
  }
  const real = server.address();
  if (real === null || typeof real === 'string') return formatAddress(named(where));
  return formatHostPort(real.address, real.port);
}

/** A unix socket that was passed on is called by its path, as one of our own. */
export function named(where: Where): Where {
  const path = 'fd' in where ? unixSocketPath(where.fd) : undefined;
  return path === undefined || path === '' ? where : { path };
}

function tryBind(server: Server, where: Where): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // A socket file is made by listen() itself, before it returns: nobody can connect to it before
  // its mode and group are right.
  const umask = 'path' in where ? process.umask(0o177) : undefined;
  server.listen({ ...where, backlog: BACKLOG }, () => {
    server.off('error', reject);
    resolve();
  });
  if (umask !== undefined) process.umask(umask);
  return promise;
}

/**
 * True if a process that is gone left this socket behind. Only a refusal says so: a socket that is
 * merely busy or not ours to use has an owner, and a file that is no socket refuses as well.
 */
async function isLeftOver(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false;
  return new Promise((settle) => {
    const probe = createConnection(path);
    probe.on('connect', () => {
      settle(false);
      probe.destroy();
    });
    probe.on('error', (error) => settle(codeOf(error) === 'ECONNREFUSED'));
  });
}

/** The number of a group of this machine. */
async function groupId(group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group);
  const groups = await readFile('/etc/group', 'utf8');
  const line = groups.split('\n').find((entry) => entry.startsWith(`${group}:`));
  const id = line?.split(':')[2];
  if (id !== undefined) return Number(id);
  throw new SheepError(
    'ERR_BAD_INPUT',
    `there is no group '${group}' in /etc/group; give the name or the number of one`,
    { group },
  );
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
