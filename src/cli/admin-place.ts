import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:http';
import { createConnection as createSocket } from 'node:net';
import { formatHostPort, isLocal, parseAdminAddress } from '../base/address.ts';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import { DIRECTORY_DEFAULT } from '../config/defaults.ts';

/** What collie shows of itself to a sheep. */
export interface Credentials {
  /** COLLIE_TOKEN_FILE names the file with the token that TCP needs. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The directory with the certificates that `https://` needs. */
  readonly certs?: string;
  /** For whom the certificate of the sheep must be, if not for the host that is asked. */
  readonly hostname?: string;
  /** The network is trusted: the token may go through it in the clear. */
  readonly networkTrusted: boolean;
}

/** Where the admin API of `place` is asked, as node:http takes it. @throws SheepError */
export async function requestTarget(
  place: string,
  { environment, certs, hostname, networkTrusted }: Credentials,
): Promise<RequestOptions> {
  const { tls, where } = parseAdminAddress(place);
  if ('path' in where) {
    // An agent would look whether 'localhost' is an address, with a pattern that takes 6 ms to compile.
    const createConnection = () => createSocket(where.path);
    return { socketPath: where.path, headers: { host: 'localhost' }, createConnection };
  }
  if ('fd' in where) throw new SheepError('ERR_BAD_INPUT', 'give host:port or unix:/path with -a');
  const { host, port } = where;
  const token = readToken(environment);
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  if (!tls && (networkTrusted || isLocal(where))) return { host, port, headers };
  if (!tls) {
    throw new SheepError(
      'ERR_BAD_INPUT',
      `the token would go to ${place} in the clear; give https://${place} with --tls-certs DIR, or ` +
        '--insecure-network if the network is trusted',
      { place },
    );
  }
  if (certs === undefined) {
    const files = 'ca-cert.pem, client-cert.pem and client-key.pem';
    const message = `${place} needs --tls-certs DIR, a directory with ${files}`;
    throw new SheepError('ERR_BAD_INPUT', message, { place });
  }
  const [{ connect }, { certificateOptions }, { readTlsFiles }] = await Promise.all([
    import('node:tls'),
    import('../host/node-tls-client.ts'),
    import('../host/tls-files.ts'),
  ]);
  const { certificate } = await readTlsFiles({ certs }, 'client');
  assert(certificate !== undefined, 'they were asked for');
  const name = hostname ?? host;
  const options = { ...certificateOptions(certificate, name), host, port };
  const called = { ...headers, host: formatHostPort(name, port) };
  return { host, port, headers: called, createConnection: () => connect(options) };
}

/** What a broken connection to a sheep means to whoever asked. */
export function noAnswer(place: string, cause: unknown): SheepError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const hints = place.startsWith('https:') ? TLS_HINTS : HINTS;
  const hint = hints.find(([pattern]) => pattern.test(code))?.[1];
  const message = `no answer from ${place}${hint === undefined ? '' : `; ${hint}`}`;
  return new SheepError('ERR_IO', message, { place }, cause);
}

type Hints = readonly (readonly [code: RegExp, hint: string])[];

const HINTS: Hints = [
  [/^EACCES$/, 'run collie as the user that sheep runs as'],
  [/^(?:ECONNRESET|HPE_\w+)$/, 'if it is inside TLS, give https://HOST:PORT with --tls-certs DIR'],
];
const TLS_HINTS: Hints = [
  [/ALTNAME/, 'give the host by a name or address that is in the certificate of the sheep'],
  [
    /WRONG_VERSION|PACKET_LENGTH|HTTP_REQUEST|EPROTO/,
    'https:// is for a sheep that serves its admin API inside TLS, and only for that',
  ],
  [
    /^(?:UNABLE_|SELF_SIGNED|DEPTH_ZERO|CERT_)/,
    'its certificate is not what ca-cert.pem vouches for',
  ],
  [/ALERT|^ECONNRESET$|^EPIPE$/, 'does it accept the certificate in client-cert.pem?'],
];

/** Undefined if there is none in the usual place: what answers says then what it needs. */
function readToken(environment: Credentials['environment']): string | undefined {
  const named = environment['COLLIE_TOKEN_FILE'];
  try {
    return readFileSync(named ?? `${DIRECTORY_DEFAULT}/admin.token`, 'utf8').trim();
  } catch (cause) {
    if (named === undefined) return undefined;
    const message = `cannot read ${named}, which COLLIE_TOKEN_FILE names`;
    throw new SheepError('ERR_IO', message, { path: named }, cause);
  }
}
