import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';

/** Counts of what stands at the beginning of requests and replies, anywhere in what passes. */
const MAGICS = {
  compactRequests: [0x25, 0x60, 0x95, 0x13],
  extendedRequests: [0x21, 0xe4, 0x1c, 0x71],
  simpleReplies: [0x67, 0x44, 0x66, 0x98],
  structuredReplies: [0x66, 0x8e, 0x33, 0xef],
  extendedReplies: [0x6e, 0x8a, 0x27, 0x8c],
} as const;

export type Seen = Record<keyof typeof MAGICS, number>;

/**
 * Stands between a client and a server at unix sockets and passes everything on. The disks of its
 * tests hold no bytes that look like a magic number.
 */
export class Tap implements AsyncDisposable {
  readonly socket: string;
  readonly #server = createServer((client) => this.#connect(client));
  readonly #target: string;
  readonly #passed: Buffer[] = [];
  readonly #open = new Set<Socket>();

  private constructor(socket: string, target: string) {
    this.socket = socket;
    this.#target = target;
  }

  /** @param target  the socket of the server */
  static async between(socket: string, target: string): Promise<Tap> {
    const tap = new Tap(socket, target);
    tap.#server.listen(socket);
    await once(tap.#server, 'listening');
    return tap;
  }

  /** What has passed so far, both ways together. */
  get seen(): Seen {
    const all = Buffer.concat(this.#passed);
    const entries = Object.entries(MAGICS).map(([name, magic]) => [
      name,
      occurrences(all, Buffer.from(magic)),
    ]);
    return Object.fromEntries(entries) as Seen;
  }

  #connect(client: Socket): void {
    const server = createConnection(this.#target);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#open.add(from);
      from.on('data', (chunk: Buffer) => {
        this.#passed.push(chunk);
        to.write(chunk);
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => this.#open.delete(from));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

function occurrences(all: Buffer, wanted: Buffer): number {
  let count = 0;
  for (let at = all.indexOf(wanted); at >= 0; at = all.indexOf(wanted, at + 1)) count += 1;
  return count;
}
