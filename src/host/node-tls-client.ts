import { isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { parseAddress } from '../base/address.ts';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Call } from '../contracts/call.ts';
import type { ByteStream } from '../contracts/net.ts';
import type { Secured, Tls, TlsFiles } from '../contracts/tls.ts';
import { NodeStream } from './node-stream.ts';
import { certificateProof, commonOptions, secureStream, usedKey } from './node-tls.ts';
import { type CertificateMaterial, contextOptions, readTlsFiles } from './tls-files.ts';

export interface ClientTlsOptions {
  /** Whose key of the file is used; not needed where it holds one. */
  readonly user?: string;
  /** The name that the server's certificate must have, if it is not that of its address. */
  readonly hostname?: string;
}

/**
 * A client's side: by certificates or by a key, never by what a server likes better.
 * @throws SheepError `ERR_BAD_INPUT` as `readTlsFiles`, and if both or no user of several are given
 */
export async function openClientTls(files: TlsFiles, options: ClientTlsOptions = {}): Promise<Tls> {
  const { certificate, pskKeys } = await readTlsFiles(files, 'client');
  if (certificate !== undefined && pskKeys !== undefined) {
    throw new SheepError('ERR_BAD_INPUT', 'give certificates or keys for TLS, not both');
  }
  if (pskKeys !== undefined) return pskSide(...userOf(pskKeys, options.user, files.psk ?? ''));
  assert(certificate !== undefined, 'there are certificates or keys');
  return certificateSide(certificate, options.hostname);
}

/** What one handshake is to do, and to look at when it is over. */
interface Side {
  options(address: string): ConnectionOptions;
  /** @throws SheepError if the server has not proven what it should */
  proofOf(socket: TLSSocket): Secured['proof'];
}

function certificateSide(material: CertificateMaterial, hostname: string | undefined): Tls {
  return secureBy({
    options: (address) => certificateOptions(material, hostname ?? hostOf(address)),
    proofOf: (socket) => certificateProof(socket.getPeerCertificate().subject),
  });
}

/** @param host  what the server's certificate must be for */
export function certificateOptions(material: CertificateMaterial, host: string): ConnectionOptions {
  return {
    ...commonOptions(false),
    ...contextOptions(material),
    host,
    ...(isIP(host) === 0 && { servername: host }),
  };
}

function pskSide(user: string, key: Uint8Array): Tls {
  return secureBy({
    options: () => ({
      ...commonOptions(true),
      ca: [], // no authority: a certificate is not what was asked for
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ identity: user, psk: key }),
    }),
    proofOf: (socket) => {
      if (!usedKey(socket)) {
        throw new SheepError('ERR_FORBIDDEN', 'the server does not know the key');
      }
      return { kind: 'psk', user };
    },
  });
}

function secureBy(side: Side): Tls {
  return {
    secure: async (stream: ByteStream, { signal }: Call = {}): Promise<Secured> => {
      assert(stream instanceof NodeStream, 'TLS is for sockets of this machine');
      const under = stream.giveUp();
      if (under.destroyed) throw ended();
      const socket = connect({ ...side.options(stream.peerName), socket: under });
      const aborted = () => under.destroy();
      signal?.addEventListener('abort', aborted, { once: true });
      if (signal?.aborted) aborted();
      try {
        await settled(socket, under);
        const proof = side.proofOf(socket);
        return { stream: secureStream(stream, socket), proof };
      } catch (cause) {
        under.destroy();
        if (signal?.aborted) throw signal.reason;
        if (cause instanceof SheepError) throw cause;
        throw new SheepError('ERR_FORBIDDEN', 'the TLS handshake failed', {}, cause);
      } finally {
        signal?.removeEventListener('abort', aborted);
      }
    },
  };
}

/** Whatever happens to the socket afterwards is told by its stream. */
function settled(socket: TLSSocket, under: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const gone = () => reject(ended());
  under.once('close', gone);
  socket.once('secureConnect', resolve).on('error', reject).once('close', gone);
  return promise;
}

function ended(): SheepError {
  return new SheepError('ERR_IO', 'the connection ended during the TLS handshake');
}

function hostOf(address: string): string {
  const where = parseAddress(address);
  return 'host' in where ? where.host : 'localhost';
}

function userOf(
  keys: ReadonlyMap<string, Uint8Array>,
  named: string | undefined,
  path: string,
): [user: string, key: Uint8Array] {
  const only = keys.size === 1 ? [...keys.keys()][0] : undefined;
  const user = named ?? only;
  const key = user === undefined ? undefined : keys.get(user);
  if (user !== undefined && key !== undefined) return [user, key];
  const users = [...keys.keys()].join(', ');
  throw new SheepError(
    'ERR_BAD_INPUT',
    named === undefined
      ? `${path} holds keys of several users; name one of them: ${users}`
      : `${path} holds no key of the user ${JSON.stringify(named)}; it has ${users}`,
    { path },
  );
}
