import { isLocal, parseAddress } from '../base/address.ts';
import { describeError, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { exposure } from '../base/secret-file.ts';
import { seldomer } from '../base/seldom.ts';
import type { Address, Listener } from '../contracts/net.ts';
import type { HttpsOptions, ServerTls } from '../contracts/tls.ts';
import type { Door } from './admin-guard.ts';
import { addRoutes } from './admin-routes.ts';
import { adminServer } from './admin-server.ts';
import type { AdminSubject } from './admin-subject.ts';
import type { Host } from './host.ts';
import { readSmallFile, writeSmallFile } from './small-file.ts';

const TOKEN_BYTES = 32;

/**
 * The token of the admin API, made with the store; only the user of the daemon can read it.
 * @throws SheepError `ERR_FORBIDDEN` if that is not so of one that is there: who else has read it is
 *         not known
 */
export async function openToken(
  { disk, random }: Pick<Host, 'disk' | 'random'>,
  directory: string,
): Promise<string> {
  const path = `${directory}/admin.token`;
  const found = await readSmallFile(disk, path);
  if (found === undefined) {
    const made = hex(random.bytes(TOKEN_BYTES));
    await writeSmallFile(disk, path, `${made}\n`);
    return made;
  }
  const why = exposure(path, await disk.permissions(path));
  if (why !== undefined) {
    const message = `${path} holds the token of the admin API, but ${why}`;
    const instead = 'or, if somebody may have read it, remove it: a new one is made';
    throw new SheepError('ERR_FORBIDDEN', `${message}; ${instead}`, { path });
  }
  const token = found.trim();
  if (/^[\x21-\x7e]{32,}$/.test(token)) return token;
  throw new SheepError(
    'ERR_CORRUPT',
    `${path} holds no token of 32 characters or more; remove it, and a new one is made`,
    { path },
  );
}

/**
 * Serves the admin API on every address, where other machines can reach it inside TLS if there are
 * certificates for it. Disposing ends it; answers under way are finished.
 * @returns the addresses in use; those inside TLS begin with `https://`
 */
export async function serveAdmin(
  host: Host,
  subject: AdminSubject,
  token: string,
  addresses: readonly Address[],
  tls?: ServerTls,
): Promise<AsyncDisposable & { readonly addresses: readonly Address[] }> {
  await using opening = new AsyncDisposableStack();
  const inside = tls?.state.certificate === undefined ? undefined : httpsOf(tls, host.log);
  const listening: Address[] = [];
  for (const address of addresses) {
    const https = isLocalAddress(address) ? undefined : inside;
    const server = adminServer(doorOf(address, token, https), host.log);
    opening.defer(() => server.close());
    await addRoutes(server, subject);
    await server.ready();
    const listener: Listener = opening.use(await host.listenHttp(server.server, address, https));
    listening.push(`${https === undefined ? '' : 'https://'}${listener.address}`);
  }
  const owned = opening.move();
  return { addresses: listening, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function isLocalAddress(address: Address): boolean {
  const where = parseAddress(address);
  return 'fd' in where || isLocal(where); // passed on for the admin API are unix sockets only
}

function httpsOf(tls: ServerTls, log: Log): HttpsOptions {
  const seldom = seldomer();
  return {
    tls,
    refused: (client, cause) =>
      seldom((refused) => {
        const facts = { client, cause: describeError(cause), refused };
        log.event('warn', 'admin.tls-refused', facts);
      }),
  };
}

function doorOf(address: Address, token: string, https: HttpsOptions | undefined): Door {
  const where = parseAddress(address);
  if (!('host' in where)) return { transport: 'unix' };
  const named = https && { isNamed: (host: string) => https.tls.isNamed(host) };
  return { transport: 'tcp', token, host: where.host, ...named };
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
