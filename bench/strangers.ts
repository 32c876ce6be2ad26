import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { CMD, OPT, REP } from '../src/nbd/constants.ts';
import { clientHello } from '../test/tls/hello.ts';

/** Where a server takes connections over TCP. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

const OPTION_MAGIC = 0x49484156454f5054n;
const REQUEST_MAGIC = 0x25609513;
const GREETING_BYTES = 18;
const OPTION_REPLY_BYTES = 20;
/** Whoever was turned away tries again after so long. */
const AGAIN_MS = 1_000;
/** Connections come from so many addresses of 127.0.0.0/8, as from so many hosts. */
const HOSTS = 16;
/** Connects at once: more would only wait in the kernel's queue, or fall out of it. */
const AT_ONCE = 50;

function optionBytes(option: number, data: Uint8Array, length = data.length): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(length, 12);
  return Buffer.concat([header, data]);
}

export function requestHeader(type: number, offset: number, length: number): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(REQUEST_MAGIC, 0);
  header.writeUInt16BE(type, 6);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return header;
}

function goData(exportName: string): Buffer {
  const name = Buffer.from(exportName);
  const data = Buffer.alloc(4 + name.length + 2);
  data.writeUInt32BE(name.length, 0);
  name.copy(data, 4);
  return data;
}

/** The host with this number, of `HOSTS`. */
function dial({ host, port }: Place, number: number): Promise<Socket | undefined> {
  return new Promise((settle) => {
    const localAddress = `127.0.0.${2 + (number % HOSTS)}`;
    const socket = connect({ host, port, localAddress, noDelay: true });
    socket.once('connect', () => settle(socket)).once('error', () => settle(undefined));
    socket.on('error', () => socket.destroy());
  });
}

/** The next `length` bytes, or undefined if the connection ends before. */
async function take(socket: Socket, length: number): Promise<Buffer | undefined> {
  for (;;) {
    const bytes = socket.read(length) as Buffer | null;
    if (bytes !== null) return bytes.length === length ? bytes : undefined;
    if (socket.readableEnded || socket.destroyed) return undefined;
    await new Promise<void>((wake) => {
      const woken = () => {
        socket.off('readable', woken).off('end', woken).off('close', woken);
        wake();
      };
      socket.on('readable', woken).on('end', woken).on('close', woken);
    });
  }
}

/** A connection into transmission, or undefined if the server did not let it come so far. */
async function attach(place: Place, exportName: string, number = 0): Promise<Socket | undefined> {
  const socket = await dial(place, number);
  if (socket === undefined) return undefined;
  await take(socket, GREETING_BYTES);
  socket.write(Buffer.of(0, 0, 0, 3));
  socket.write(optionBytes(OPT.GO, goData(exportName)));
  for (;;) {
    const header = await take(socket, OPTION_REPLY_BYTES);
    const type = header?.readUInt32BE(12);
    if (header === undefined || type === undefined || type >= REP.ERR_UNSUP) {
      socket.destroy();
      return undefined;
    }
    const length = header.readUInt32BE(16);
    if (length > 0) await take(socket, length);
    if (type === REP.ACK) return socket;
  }
}

/**
 * What a stranger sends before it falls silent in the middle of the handshake: at once, and when that
 * is answered.
 */
const SAID: Readonly<Record<string, () => readonly Buffer[]>> = {
  nothing: () => [],
  'TLS is to begin': () => [STARTTLS],
  // The server does all that it has to do.
  'TLS has begun': () => [STARTTLS, tlsHello()],
  // A GO of 1 MiB, but for its last byte.
  'most of an option': () => [
    Buffer.concat([Buffer.of(0, 0, 0, 3), optionBytes(OPT.GO, Buffer.alloc(2 ** 20 - 1), 2 ** 20)]),
  ],
};
const STARTTLS = Buffer.concat([Buffer.of(0, 0, 0, 3), optionBytes(OPT.STARTTLS, Buffer.alloc(0))]);

function tlsHello(): Buffer {
  const random = randomBytes(32);
  return clientHello({ newest: true, random, session: random, share: random });
}

/** Connections that mean no good, or do nothing; all gone when it is disposed. */
export class Strangers implements AsyncDisposable {
  readonly #sockets = new Set<Socket>();
  readonly #over = new AbortController();
  readonly #going: Promise<void>[] = [];

  /** Connections that are open at the moment. */
  get open(): number {
    return [...this.#sockets].filter((socket) => !socket.destroyed && !socket.readableEnded).length;
  }

  /**
   * `count` that never finish the handshake; whoever is closed comes `again`, or stays away.
   * @returns when all have come for the first time, and have sent what they send or were closed
   */
  async halfOpen(
    place: Place,
    count: number,
    saying: keyof typeof SAID = 'nothing',
    again: 'again' | 'once' = 'again',
  ) {
    const first: Promise<void>[] = [];
    for (let number = 0; number < count; number += 1) {
      const said = Promise.withResolvers<void>();
      first.push(said.promise);
      const coming = this.#come(place, number, SAID[saying]?.() ?? [], said.resolve);
      this.#going.push(again === 'once' ? coming : this.#comeAgain(coming, place, number, saying));
      if (number % AT_ONCE === AT_ONCE - 1) await Promise.all(first);
    }
    await Promise.all(first);
  }
  async #comeAgain(
    first: Promise<void>,
    place: Place,
    number: number,
    saying: keyof typeof SAID,
  ): Promise<void> {
    const { signal } = this.#over;
    await first;
    while (!signal.aborted) {
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await this.#come(place, number, SAID[saying]?.() ?? [], () => undefined);
    }
  }
  /** Comes, says its part, and stays until it is closed. */
  async #come(place: Place, number: number, parts: readonly Buffer[], said: () => void) {
    const socket = await dial(place, number);
    if (socket === undefined) {
      said();
      return;
    }
    this.#keep(socket);
    const closed = new Promise<void>((wake) => socket.once('close', () => wake()));
    void closed.then(said);
    const [at1st, ...later] = parts;
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received < GREETING_BYTES + OPTION_REPLY_BYTES) return;
      for (const part of later.splice(0)) socket.write(part);
    });
    if (at1st === undefined) said();
    else socket.write(at1st, () => said());
    await closed;
  }

  /**
   * `count` that attach to the export and then do nothing; `wrote`: each wrote so much before.
   * @throws Error if the server does not take them all
   */
  async idle(place: Place, exportName: string, count: number, wrote = 0): Promise<void> {
    for (let from = 0; from < count; from += AT_ONCE) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, at) => from + at);
      const attached = await Promise.all(
        numbers.map(async (number) => {
          const socket = await attach(place, exportName, number);
          if (socket === undefined) throw new Error(`client ${number} was not taken`);
          this.#keep(socket);
          if (wrote === 0) return;
          socket.write(requestHeader(CMD.WRITE, 0, wrote));
          socket.write(Buffer.alloc(wrote, number));
          await take(socket, 16);
        }),
      );
      await Promise.all(attached);
    }
  }

  /**
   * One that sends what `next` gives, as fast as it is taken, and reads nothing.
   * @returns how many bytes the server took in `seconds`
   */
  async deaf(place: Place, exportName: string, seconds: number, next: () => Buffer) {
    const socket = await attach(place, exportName);
    if (socket === undefined) throw new Error('the server does not take the client');
    this.#keep(socket);
    socket.pause();
    const untilMs = performance.now() + seconds * 1000;
    const late = sleep(seconds * 1000, undefined, { ref: false });
    while (performance.now() < untilMs && !socket.destroyed) {
      const sent = new Promise<void>((done) => socket.write(next(), () => done()));
      await Promise.race([sent, late]);
    }
    return socket.bytesWritten - socket.writableLength;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#going);
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#over.signal.aborted) socket.destroy();
  }
}
