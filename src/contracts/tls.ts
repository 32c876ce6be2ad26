import type { Call } from './call.ts';
import type { Proof } from './exports.ts';
import type { ByteStream } from './net.ts';

/** A stream inside TLS, and what its other side has proven there. */
export interface Secured {
  /** Not yet started. */
  readonly stream: ByteStream;
  readonly proof: Proof;
}

/** One side of TLS, with its certificates and keys. */
export interface Tls {
  /**
   * Does the handshake over `stream`, which is given away for good: it tells its owner nothing more,
   * and whatever arrives from this call on belongs to TLS. If anything was received before that its
   * owner has not used, it must not be secured but closed: somebody may have put it there.
   * @throws SheepError `ERR_FORBIDDEN` if one side does not accept what the other shows, `ERR_IO` if
   *         the connection ended; the signal's reason. The stream is closed then
   */
  secure(stream: ByteStream, call?: Call): Promise<Secured>;
}

/** What is in force on a server's side of TLS. */
export interface TlsState {
  readonly certificate?: {
    /** The server's own, as `CN=…, O=…`. */
    readonly subject: string;
    /** Wall time in milliseconds; from then on no client accepts it. */
    readonly expiresAtMs: number;
    /** Whether certificates of clients are looked up in a list of revoked ones. */
    readonly revocations: boolean;
  };
  /** How many users have a key. */
  readonly pskUsers?: number;
}

/** The server's side. Every client that it lets in has proven who it is. */
export interface ServerTls extends Tls {
  readonly state: TlsState;
  /** Whether its certificate is good for this name or address. */
  isNamed(host: string): boolean;
  /**
   * Reads the files again, for streams that are secured from now on.
   * @throws SheepError `ERR_BAD_INPUT` if they cannot be used: then what was in force stays so
   */
  reload(): Promise<TlsState>;
}

/** How an HTTP server listens inside TLS: only who has proven a certificate comes in. */
export interface HttpsOptions {
  readonly tls: ServerTls;
  /** A connection that TLS did not let in, and why. */
  readonly refused: (client: string, cause: unknown) => void;
}

/** Where the certificates and keys of one side lie. At least one of the two. */
export interface TlsFiles {
  /** A directory with ca-cert.pem, server-cert.pem and server-key.pem (a client's: client-…). */
  readonly certs?: string;
  /** A file with lines of `user:key`, the key in hexadecimal digits. */
  readonly psk?: string;
}
