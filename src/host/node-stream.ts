import type { Socket } from 'node:net';
import { assert } from '../base/assert.ts';
import type { ByteStream, StreamEvents } from '../contracts/net.ts';
import { stayAwake } from './awake.ts';
import { endWithDeadPeer } from './dead-peers.ts';
import { ReceiveRooms } from './receive-buffer.ts';

/** A socket of this machine, or what TLS made of one. */
export class NodeStream implements ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  readonly peerAddress?: string;
  readonly #socket: Socket;
  readonly #rooms: ReceiveRooms;
  #events: StreamEvents | undefined;
  #paused = false;
  #givenUp = false;
  #cause: Error | undefined;

  /** @param make  makes the socket, which passes what it received to the given function */
  constructor(
    peerName: string,
    transport: 'tcp' | 'unix',
    make: (rooms: ReceiveRooms, taken: (chunk: Uint8Array) => boolean) => Socket,
  ) {
    this.peerName = peerName;
    this.transport = transport;
    this.#rooms = new ReceiveRooms(() => this.#readOn());
    const socket = make(this.#rooms, (chunk) => this.#received(chunk));
    this.#socket = socket;
    if (transport === 'tcp' && socket.remoteAddress !== undefined) {
      this.peerAddress = socket.remoteAddress;
    }
    socket.on('error', (cause) => {
      this.#cause = cause;
    });
    socket.on('end', () => this.#events?.ended());
    socket.on('close', () => this.#closed());
  }

  get unsentBytes(): number {
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  start(events: StreamEvents): void {
    assert(this.#events === undefined, 'a stream is started once');
    this.#events = events;
    if (this.#socket.destroyed) {
      this.#closed();
      return;
    }
    if (this.transport === 'tcp') {
      this.#socket.setNoDelay(true);
      endWithDeadPeer(this.#socket);
    }
    this.#socket.resume();
  }

  pause(): void {
    this.#paused = true;
    if (!this.#givenUp) this.#socket.pause();
  }
  resume(): void {
    this.#paused = false;
    this.#readOn();
  }

  write(bytes: Uint8Array, done?: () => void): void {
    this.#socket.write(bytes, done);
  }
  end(): void {
    this.#socket.end();
  }
  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * The socket, for a layer above it that reads and writes it from now on. This stream tells its
   * owner nothing more; only `destroy` still does something. Its memory stays the socket's until
   * that is closed.
   */
  giveUp(): Socket {
    assert(!this.#givenUp, 'a stream is given up once');
    this.#givenUp = true;
    this.#events = undefined;
    this.#socket.removeAllListeners('data');
    return this.#socket;
  }

  /** For sockets without fixed memory: every chunk comes in memory of its own. */
  receiveFresh(): void {
    this.#socket.on('data', (chunk: Uint8Array) => {
      this.#rooms.fresh(chunk);
      const more = this.#received(chunk);
      this.#rooms.passed();
      if (!more) this.#socket.pause();
    });
    this.#socket.pause();
  }

  #received(chunk: Uint8Array): boolean {
    stayAwake();
    this.#events?.received(chunk, this.#rooms.loan);
    return !this.#paused && this.#rooms.mayRead;
  }
  #readOn(): void {
    if (this.#givenUp || this.#paused || this.#socket.destroyed) return;
    if (this.#rooms.mayRead) this.#socket.resume();
  }
  #closed(): void {
    this.#rooms.close();
    this.#events?.closed(this.#cause);
  }
}
