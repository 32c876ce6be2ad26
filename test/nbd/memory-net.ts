import { SheepError } from '../../src/base/errors.ts';
import type { Call } from '../../src/contracts/call.ts';
import type {
  Address,
  ByteStream,
  Listener,
  ListenOptions,
  Loan,
  Net,
  StreamEvents,
} from '../../src/contracts/net.ts';
import { ByteQueue } from './byte-queue.ts';

export interface MemoryNetOptions {
  /** No chunk is longer. */
  readonly chunkBytes?: number;
  /** What a connection holds between its ends before a writer has to wait. */
  readonly windowBytes?: number;
  /** So many turns after bytes have left they still count as unsent: inside TLS that takes long. */
  readonly doneTurns?: number;
}

const HELD_MAX = 8;

/**
 * Connections inside this process, unkind on purpose: chunks of a chosen size, received memory that
 * is scribbled over the moment nobody holds it, written memory that is read as late as possible.
 */
export class MemoryNet implements Net {
  readonly #listeners = new Map<Address, (stream: ByteStream) => void>();
  readonly #options: Required<MemoryNetOptions>;
  #ports = 1;

  constructor(options: MemoryNetOptions = {}) {
    this.#options = { chunkBytes: 64 * 1024, windowBytes: 256 * 1024, doneTurns: 0, ...options };
  }

  async listen(
    address: Address,
    accept: (stream: ByteStream) => void,
    _options?: ListenOptions,
  ): Promise<Listener> {
    if (!/^(?:unix:.+|[^:]+:\d+)$/.test(address)) {
      throw new SheepError('ERR_BAD_INPUT', `no address: ${address}`);
    }
    const real = address.replace(/:0$/, () => `:${this.#ports++}`);
    if (this.#listeners.has(real)) throw new SheepError('ERR_BUSY', `${real} is in use`);
    this.#listeners.set(real, accept);
    return {
      address: real,
      [Symbol.asyncDispose]: async () => {
        this.#listeners.delete(real);
      },
    };
  }

  async dial(address: Address, { signal }: Call = {}): Promise<ByteStream> {
    await undefined; // whoever dials may still abort
    signal?.throwIfAborted();
    const accept = this.#listeners.get(address);
    if (accept === undefined) throw new SheepError('ERR_IO', `nobody answers at ${address}`);
    const transport = address.startsWith('unix:') ? 'unix' : 'tcp';
    const ours = new MemoryStream(address, transport, this.#options);
    // All clients of a unix socket have its name.
    const name = transport === 'unix' ? address : `memory:${this.#ports++}`;
    const theirs = new MemoryStream(name, transport, this.#options);
    ours.join(theirs);
    theirs.join(ours);
    accept(theirs);
    return ours;
  }
}

/** One end of a connection. */
class MemoryStream implements ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  readonly #options: Required<MemoryNetOptions>;
  #peer: MemoryStream | undefined;
  #events: StreamEvents | undefined;
  #paused = false;
  #held = 0;
  /** Written by us, not yet on its way; then on its way to us. */
  readonly #waiting: { bytes: Uint8Array; done: (() => void) | undefined }[] = [];
  readonly #arriving = new ByteQueue();
  /** On its way, but we are not yet told. */
  #untoldBytes = 0;
  #ending = false;
  #peerEnded = false;
  #endTold = false;
  #closed = false;
  #cause: Error | undefined;
  #scheduled = false;

  constructor(name: string, transport: 'tcp' | 'unix', options: Required<MemoryNetOptions>) {
    this.peerName = name;
    this.transport = transport;
    this.#options = options;
  }
  join(peer: MemoryStream): void {
    this.#peer = peer;
  }

  start(events: StreamEvents): void {
    this.#events = events;
    this.#schedule();
  }
  pause(): void {
    this.#paused = true;
  }
  resume(): void {
    this.#paused = false;
    this.#schedule();
  }
  write(bytes: Uint8Array, done?: () => void): void {
    if (this.#closed) {
      if (done) setImmediate(done);
      return;
    }
    this.#waiting.push({ bytes, done });
    this.#schedule();
  }
  get unsentBytes(): number {
    return this.#waiting.reduce((sum, { bytes }) => sum + bytes.length, this.#untoldBytes);
  }
  end(): void {
    this.#ending = true;
    this.#schedule();
  }
  destroy(): void {
    this.#close();
    this.#peer?.lost();
  }
  lost(): void {
    if (this.#closed) return;
    // What was on its way before still arrives, as with a real connection.
    if (this.#arriving.length > 0 && !this.#paused) this.#deliver();
    this.#close(this.#ending && this.#peerEnded ? undefined : new Error('connection reset'));
  }

  #close(cause?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cause = cause;
    for (const { done } of this.#waiting.splice(0)) if (done) setImmediate(done);
    setImmediate(() => this.#events?.closed(this.#cause));
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) this.#turn();
    });
  }

  #turn(): void {
    this.#send();
    if (this.#events !== undefined) this.#deliver();
    const sent = this.#waiting.length === 0;
    if (this.#ending && sent) this.#peer?.peerHasEnded();
    if (this.#ending && sent && this.#endTold) this.#close();
  }

  #send(): void {
    const peer = this.#peer;
    while (peer !== undefined && this.#waiting.length > 0 && peer.hasRoom) {
      const [{ bytes, done } = { bytes: new Uint8Array(0), done: undefined }] = this.#waiting;
      this.#waiting.shift();
      peer.arrive(bytes);
      this.#untoldBytes += bytes.length;
      this.#tell(this.#options.doneTurns, bytes.length, done);
    }
  }
  #tell(turns: number, length: number, done: (() => void) | undefined): void {
    if (turns > 0) {
      setImmediate(() => this.#tell(turns - 1, length, done));
      return;
    }
    this.#untoldBytes -= length;
    if (done) setImmediate(done);
  }
  get hasRoom(): boolean {
    return this.#arriving.length < this.#options.windowBytes;
  }
  arrive(bytes: Uint8Array): void {
    this.#arriving.push(bytes);
    this.#schedule();
  }
  peerHasEnded(): void {
    this.#peerEnded = true;
    this.#schedule();
  }

  #deliver(): void {
    const { chunkBytes } = this.#options;
    while (this.#mayDeliver && this.#arriving.length > 0) {
      const chunk = this.#arriving.shift(chunkBytes);
      this.#events?.received(chunk, this.#loanFor(chunk));
    }
    if (this.#arriving.length === 0) this.#peer?.roomAgain();
    if (this.#mayDeliver && this.#peerEnded && !this.#endTold) {
      this.#endTold = true;
      this.#events?.ended();
      this.#schedule();
    }
  }
  get #mayDeliver(): boolean {
    return !this.#paused && !this.#closed && this.#held < HELD_MAX;
  }
  roomAgain(): void {
    if (this.#waiting.length > 0) this.#schedule();
  }

  /** Memory that turns to rubbish when the call returns and nobody holds it. */
  #loanFor(chunk: Uint8Array): Loan {
    let users = 0;
    let counted = false;
    const settle = () => {
      if (users === 0) chunk.fill(0xee);
      if (users > 0 === counted) return;
      counted = users > 0;
      this.#held += counted ? 1 : -1;
      this.#schedule();
    };
    queueMicrotask(settle);
    return {
      hold: () => {
        users += 1;
      },
      release: () => {
        users -= 1;
        settle();
      },
    };
  }
}
