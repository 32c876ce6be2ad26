import { createConnection, createServer, Socket } from 'node:net';
import { KiB } from '../base/units.ts';
import type { Loan } from '../contracts/net.ts';

/** Room of a stream that has little to say: handshakes, clients that mostly read, idle ones. */
const SMALL_BYTES = 16 * KiB;
/** Holds 32 writes of 4 KiB. From 128 KiB to 1 MiB no difference could be measured. */
const LARGE_BYTES = 256 * KiB;
/** Held chunks of one stream before it stops reading. */
const HELD_MAX = 8;
/** Large rooms in use by all streams together; above, they make do with small ones. */
const LENT_MAX = 128;
/** A stream that receives so many short chunks after another has no use for a large room. */
const SHORT_CHUNKS = 16;
/** Large rooms kept for the next stream that needs one. */
const IDLE_MAX = 64;

/** The large rooms of this process. */
const idle: Uint8Array[] = [];
let lent = 0;

function takeLarge(): Uint8Array | undefined {
  if (lent >= LENT_MAX) return undefined;
  lent += 1;
  return idle.pop() ?? new Uint8Array(LARGE_BYTES);
}
function giveLarge(bytes: Uint8Array): void {
  lent -= 1;
  if (idle.length < IDLE_MAX) idle.push(bytes);
}

/** One piece of receive memory, and how many still use the chunk in it. */
class Room implements Loan {
  readonly bytes: Uint8Array;
  /** From `takeLarge`, and to be given back. */
  readonly large: boolean;
  readonly #freed: (room: Room) => void;
  users = 0;

  constructor(bytes: Uint8Array, large: boolean, freed: (room: Room) => void) {
    this.bytes = bytes;
    this.large = large;
    this.#freed = freed;
  }
  hold(): void {
    this.users += 1;
  }
  release(): void {
    this.users -= 1;
    if (this.users === 0) this.#freed(this);
  }
}

/** Stands for the memory of a stream between two chunks that had memory of their own. */
const NOWHERE = new Room(new Uint8Array(0), false, () => undefined);

/**
 * The receive memory of one stream. The socket reads into `next()` again and again; a room whose
 * chunk is held is replaced by another. A large room is used while chunks need one: a thousand
 * clients that wrote much and then fell silent keep none.
 */
export class ReceiveRooms {
  readonly #small = this.#room(new Uint8Array(SMALL_BYTES), false);
  #current = this.#small;
  #held = 0;
  #shortChunks = 0;
  #closed = false;
  readonly #available: () => void;

  /** @param available  called when reading, stopped by `mayRead`, may go on */
  constructor(available: () => void) {
    this.#available = available;
  }

  get mayRead(): boolean {
    return this.#held + (this.#current.users > 0 ? 1 : 0) < HELD_MAX;
  }

  get loan(): Loan {
    return this.#current;
  }

  first(): Uint8Array {
    return this.#current.bytes;
  }

  /** To be called after each chunk: the memory for the next one, or undefined to keep this one. */
  next(received: number): Uint8Array | undefined {
    const before = this.#current;
    const large = this.#needsLarge(received, before);
    if (before.users === 0 && large === before.large) return undefined;
    const bytes = large ? takeLarge() : undefined;
    if (before.users > 0) this.#held += 1;
    else if (bytes === undefined && !before.large) return undefined;
    else giveBack(before);
    this.#current = bytes === undefined ? this.#smallRoom() : this.#room(bytes, true);
    return this.#current.bytes;
  }

  /** Without `next`: `chunk` lies in memory of its own. Followed by `passed`. */
  fresh(chunk: Uint8Array): void {
    this.#current = this.#room(chunk, false);
  }
  passed(): void {
    if (this.#current.users > 0) this.#held += 1;
    this.#current = NOWHERE;
  }

  /** The socket is gone and writes into no room any more. */
  close(): void {
    this.#closed = true;
    if (this.#current.users === 0) giveBack(this.#current);
  }

  /** A short chunk now and then says nothing; where many want a large room, it does. */
  #needsLarge(received: number, { bytes, large }: Room): boolean {
    if (received > SMALL_BYTES || received === bytes.length) {
      this.#shortChunks = 0;
      return true;
    }
    this.#shortChunks += 1;
    return large && this.#shortChunks < SHORT_CHUNKS && lent <= LENT_MAX / 2;
  }

  #room(bytes: Uint8Array, large: boolean): Room {
    return new Room(bytes, large, (room) => this.#free(room));
  }
  #smallRoom(): Room {
    return this.#small.users === 0 ? this.#small : this.#room(new Uint8Array(SMALL_BYTES), false);
  }

  #free(room: Room): void {
    if (!this.#closed && room === this.#current) return;
    giveBack(room);
    if (this.#closed) return;
    const stopped = !this.mayRead;
    this.#held -= 1;
    if (stopped) this.#available();
  }
}

function giveBack(room: Room): void {
  if (room.large) giveLarge(room.bytes);
}

/** What of Node's internals the trick below touches. */
interface Innards {
  _handle: object | null;
}

/**
 * Moves the connection of an accepted, paused socket into a new socket that reads into `rooms`.
 * Node gives fixed receive memory (`onread`) to sockets that it makes from a handle, but not to
 * those its server accepts; a fresh buffer for each chunk costs a large part of the throughput.
 * @param taken  the received length; false stops reading
 */
export function adopt(
  accepted: Socket,
  rooms: ReceiveRooms,
  taken: (chunk: Uint8Array) => boolean,
): Socket {
  const shell = accepted as unknown as Innards;
  const handle = shell._handle;
  shell._handle = null;
  accepted.destroy(); // the server counts it as gone; the handle lives on below
  const options = { handle, allowHalfOpen: true, manualStart: true, onread: onRead(rooms, taken) };
  return new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
}

/** The `onread` option of node:net, with memory that changes only while a chunk is held. */
export function onRead(rooms: ReceiveRooms, taken: (chunk: Uint8Array) => boolean) {
  let latest = 0;
  let begun = false;
  return {
    buffer: () => {
      if (begun) return rooms.next(latest) as Uint8Array;
      begun = true;
      return rooms.first();
    },
    callback: (length: number, memory: Uint8Array) => {
      latest = length;
      return taken(memory.subarray(0, length));
    },
  };
}

/**
 * True if `adopt` works in this Node: tried once with a real connection, because it leans on
 * internals. Without it streams fall back to a fresh buffer for each chunk.
 */
export function adoptionWorks(): Promise<boolean> {
  works ??= new Promise<boolean>((settle) => {
    const server = createServer({ pauseOnConnect: true }, (accepted) => {
      const rooms = new ReceiveRooms(() => undefined);
      const socket = adopt(accepted, rooms, (chunk) => {
        settle(chunk.length === 1 && chunk.buffer === rooms.first().buffer);
        socket.destroy();
        return true;
      });
      socket.on('error', () => settle(false)).on('close', () => settle(false));
      socket.resume();
    });
    const name = `\0sheepdog-nbd-probe-${process.pid}`; // abstract: leaves no file behind
    server.on('error', () => settle(false));
    server.listen(name, () => {
      const client = createConnection(name, () => client.end(Uint8Array.of(1)));
      client.on('error', () => settle(false)).on('close', () => server.close());
      client.resume();
    });
  }).catch(() => false);
  return works;
}
let works: Promise<boolean> | undefined;
