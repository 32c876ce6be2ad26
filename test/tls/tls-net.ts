import type { Call } from '../../src/contracts/call.ts';
import type { Proof } from '../../src/contracts/exports.ts';
import type { Address, ByteStream, ListenOptions, Net } from '../../src/contracts/net.ts';
import type { Secured, Tls } from '../../src/contracts/tls.ts';

/**
 * A net of which every stream is inside TLS. As in NBD a word goes each way in the clear before, and
 * TLS begins from inside of `received`: the sockets have been in use when TLS gets them.
 */
export class TlsNet implements Net {
  readonly #under: Net;
  readonly #server: Tls;
  readonly #client: Tls;
  /** What the accepted streams have proven, and what came of the others; in order. */
  readonly proofs: Proof[] = [];
  readonly refusals: unknown[] = [];

  constructor(under: Net, server: Tls, client: Tls) {
    this.#under = under;
    this.#server = server;
    this.#client = client;
  }

  listen(address: Address, accept: (stream: ByteStream) => void, options?: ListenOptions) {
    const secured = async (stream: ByteStream) => {
      try {
        const { stream: inside, proof } = await atWord(stream, () => {
          stream.write(WORD);
          return this.#server.secure(stream);
        });
        this.proofs.push(proof);
        accept(inside);
      } catch (error) {
        this.refusals.push(error);
      }
    };
    return this.#under.listen(address, (stream) => void secured(stream), options);
  }

  async dial(address: Address, call: Call = {}): Promise<ByteStream> {
    const stream = await this.#under.dial(address, call);
    const securing = atWord(stream, () => this.#client.secure(stream, call));
    stream.write(WORD);
    const aborted = () => stream.destroy();
    call.signal?.addEventListener('abort', aborted, { once: true });
    try {
      return (await securing).stream;
    } catch (error) {
      throw call.signal?.aborted ? call.signal.reason : error;
    } finally {
      call.signal?.removeEventListener('abort', aborted);
    }
  }
}

const WORD = Uint8Array.of(1);

/** Starts the stream, and calls `then` from inside of its first `received`. */
function atWord(stream: ByteStream, then: () => Promise<Secured>): Promise<Secured> {
  const { promise, resolve, reject } = Promise.withResolvers<Secured>();
  stream.start({
    received: () => resolve(then()),
    ended: () => stream.destroy(),
    closed: (cause) => reject(cause ?? new Error('closed before the word')),
  });
  return promise;
}
