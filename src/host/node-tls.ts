import { constants, X509Certificate } from 'node:crypto';
import { isIP, type Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Call } from '../contracts/call.ts';
import type { Proof } from '../contracts/exports.ts';
import type { ByteStream } from '../contracts/net.ts';
import type { Secured, ServerTls, TlsFiles, TlsState } from '../contracts/tls.ts';
import { NodeStream } from './node-stream.ts';
import { contextOptions, readTlsFiles, type TlsMaterial } from './tls-files.ts';

/**
 * Ciphers of TLS 1.3, then of 1.2; the first that both sides have is taken. A pre-shared key works
 * in TLS 1.3 only with a cipher on SHA-256, so one of these stands first.
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE+AESGCM',
  'ECDHE+CHACHA20',
];
const PSK_CIPHERS = ['ECDHE-PSK-CHACHA20-POLY1305', 'ECDHE-PSK-AES128-CBC-SHA256'];

/** What both sides hold to. */
export function commonOptions(withPsk: boolean) {
  return {
    minVersion: 'TLSv1.2',
    ciphers: [...CIPHERS, ...(withPsk ? PSK_CIPHERS : [])].join(':'),
    honorCipherOrder: true,
    // Every connection proves anew who it is: a ticket would outlive a revocation, and say nothing of
    // the user of a key. Nor may a connection become somebody else's later on.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  } as const;
}

/** @throws SheepError `ERR_BAD_INPUT` as `readTlsFiles` */
export async function openServerTls(files: TlsFiles): Promise<ServerTls> {
  return new NodeServerTls(files, await readTlsFiles(files, 'server'));
}

/**
 * The side of a server. `tls.createServer` alone looks at what the certificate of a client is worth:
 * a `TLSSocket` made for a server only notes that it is worth nothing. So every stream goes through
 * such a server, which listens nowhere.
 */
export class NodeServerTls implements ServerTls {
  readonly #files: TlsFiles;
  #gate: Gate;
  #reloading: Promise<TlsState> | undefined;

  constructor(files: TlsFiles, material: TlsMaterial) {
    this.#files = files;
    this.#gate = new Gate(material);
  }

  get state(): TlsState {
    return this.#gate.state;
  }

  isNamed(host: string): boolean {
    const { own } = this.#gate;
    if (host === '' || host.startsWith('.')) return false; // to OpenSSL that is any name below it
    return (isIP(host) === 0 ? own?.checkHost(host) : own?.checkIP(host)) !== undefined;
  }

  /** One after the other: what was read last is in force at the end. */
  async reload(): Promise<TlsState> {
    const before = this.#reloading;
    const reload = async () => {
      await before?.catch(() => undefined);
      this.#gate = new Gate(await readTlsFiles(this.#files, 'server'));
      return this.state;
    };
    this.#reloading = reload();
    return this.#reloading;
  }

  async secure(stream: ByteStream, call: Call = {}): Promise<Secured> {
    assert(stream instanceof NodeStream, 'TLS is for sockets of this machine');
    const { socket, proof } = await this.enter(stream.giveUp(), call);
    return { stream: secureStream(stream, socket), proof };
  }

  /** The same over a socket that is no stream of ours. */
  enter(under: Socket, call: Call = {}): Promise<Entered> {
    return this.#gate.enter(under, call);
  }
}

/** The stream inside TLS, with the names of the one around it. */
export function secureStream({ peerName, transport }: ByteStream, socket: TLSSocket): ByteStream {
  const stream = new NodeStream(peerName, transport, () => socket);
  stream.receiveFresh();
  return stream;
}

interface Entered {
  readonly socket: TLSSocket;
  readonly proof: Proof;
}

/** One state of the files, and the handshakes that go on with it. */
class Gate {
  /** The server's certificate. */
  readonly own: X509Certificate | undefined;
  readonly state: TlsState;
  readonly #server: Server;
  /** Who waits, by the socket that TLS goes over. */
  readonly #waiting = new WeakMap<Socket, PromiseWithResolvers<Entered>>();
  /** The user whose key was asked for last; not yet proven. */
  readonly #claimed = new WeakMap<TLSSocket, string>();

  constructor(material: TlsMaterial) {
    const { certificate } = material;
    this.own = certificate && new X509Certificate(certificate.cert);
    this.state = stateOf(material, this.own);
    this.#server = createServer(this.#options(material));
    this.#server.on('secureConnection', (socket) => {
      const proof = this.#proofOf(socket);
      if (proof === undefined) this.#refuse(socket);
      else this.#waiting.get(socketUnder(socket))?.resolve({ socket, proof });
    });
    this.#server.on('tlsClientError', (cause, socket) => this.#refuse(socket, cause));
  }

  /** Takes over `under`; whatever comes of it, it is closed if this fails. */
  async enter(under: Socket, { signal }: Call): Promise<Entered> {
    const waiting = Promise.withResolvers<Entered>();
    this.#waiting.set(under, waiting);
    const aborted = () => {
      waiting.reject(signal?.reason);
      under.destroy();
    };
    const ended = new SheepError('ERR_IO', 'the connection ended during the TLS handshake');
    // TLS, which knows why if it was the one to end it, tells that a little later.
    const gone = () => setImmediate(() => waiting.reject(ended));
    under.once('close', gone);
    // A client that ends its side in the middle of the handshake is waited for by nobody.
    const { allowHalfOpen } = under;
    under.allowHalfOpen = false;
    signal?.addEventListener('abort', aborted, { once: true });
    if (signal?.aborted) aborted();
    else if (under.destroyed) gone();
    else this.#server.emit('connection', under);
    try {
      const entered = await waiting.promise;
      entered.socket.allowHalfOpen = allowHalfOpen;
      return entered;
    } finally {
      signal?.removeEventListener('abort', aborted);
      under.off('close', gone);
    }
  }

  #options({ certificate, pskKeys }: TlsMaterial): TlsOptions {
    return {
      ...commonOptions(pskKeys !== undefined),
      ...(certificate !== undefined && {
        ...contextOptions(certificate),
        requestCert: true,
        // Where Node refuses who has no certificate, it refuses who has a key as well.
        rejectUnauthorized: pskKeys === undefined,
      }),
      ...(pskKeys !== undefined && {
        pskCallback: (socket: TLSSocket, user: string) => {
          const key = pskKeys.get(user);
          if (key !== undefined) this.#claimed.set(socket, user);
          return key ?? null;
        },
      }),
    };
  }

  /** What decides: that a handshake came to its end proves nothing. */
  #proofOf(socket: TLSSocket): Proof | undefined {
    if (hasPeerCertificate(socket)) {
      return socket.authorized ? certificateProof(socket.getPeerCertificate().subject) : undefined;
    }
    // Whose key was asked for last is whose key was used, if one was used at all.
    const user = this.#claimed.get(socket);
    return user !== undefined && usedKey(socket) ? { kind: 'psk', user } : undefined;
  }

  #refuse(socket: TLSSocket, cause?: Error): void {
    const under = socketUnder(socket);
    let message = 'the TLS handshake failed';
    if (cause === undefined && !hasPeerCertificate(socket)) {
      message = 'the client has shown no certificate, and no key that is known';
    } else if (socket.authorizationError) {
      message = `the client's certificate is refused: ${socket.authorizationError}`;
    }
    this.#waiting.get(under)?.reject(new SheepError('ERR_FORBIDDEN', message, {}, cause));
    under.destroy(); // after a time-out Node leaves it open
  }
}

/** A certificate with several common names, or none, is one of our authority and no more. */
export function certificateProof(subject: { readonly CN?: unknown }): Proof {
  return { kind: 'certificate', commonName: typeof subject.CN === 'string' ? subject.CN : '' };
}

/**
 * The socket that TLS goes over. Node tells it in no documented way; where it does not tell it,
 * nobody comes in.
 */
function socketUnder(socket: TLSSocket): Socket {
  return (socket as unknown as { readonly _parent: Socket })._parent;
}

function hasPeerCertificate(socket: TLSSocket): boolean {
  return Object.keys(socket.getPeerCertificate()).length > 0;
}

/**
 * True if the handshake was done with a pre-shared key. In TLS 1.3 it looks like a session that is
 * taken up again, and as there are no tickets it can be nothing else; before, the cipher tells. A
 * client may offer a key and then not use it.
 */
export function usedKey(socket: TLSSocket): boolean {
  if (socket.getProtocol() === 'TLSv1.3') return socket.isSessionReused();
  return socket.getCipher().name.includes('PSK');
}

function stateOf({ certificate, pskKeys }: TlsMaterial, own?: X509Certificate): TlsState {
  return {
    ...(own !== undefined && {
      certificate: {
        subject: own.subject.replaceAll('\n', ', '),
        expiresAtMs: own.validToDate.getTime(),
        revocations: certificate?.crl !== undefined,
      },
    }),
    ...(pskKeys !== undefined && { pskUsers: pskKeys.size }),
  };
}
