import { Writer } from '../../src/base/bytes.ts';
import type { ByteStream, Listener } from '../../src/contracts/net.ts';
import { connectNbd, type NbdClient, type NbdClientOptions } from '../../src/nbd/client/connect.ts';
import type { ReplyForm } from '../../src/nbd/validate.ts';
import { ByteQueue } from './byte-queue.ts';
import { MemoryNet } from './memory-net.ts';

/** A server's own idea of the wire, from the protocol text and not from the client. */
const NBDMAGIC = 0x4e42444d41474943n;
const IHAVEOPT = 0x49484156454f5054n;
const REPLY_MAGIC = 0x3e889045565a9n;

export const FLAGS = { all: 0xded, readOnly: 0x507, withoutFlush: 0x1 } as const;

export interface SeenRequest {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly at: number;
  readonly length: number;
  readonly payload: Uint8Array;
}

export interface ScriptedOptions {
  readonly sizeBytes?: number;
  readonly flags?: number;
  /** 'structured' if absent. */
  readonly form?: ReplyForm;
  /** Minimum, preferred, maximum payload. */
  readonly blocks?: readonly [number, number, number];
  /** Selected for the client if it asks for them; the first one gets id 1. */
  readonly contexts?: readonly string[];
  readonly chunkBytes?: number;
}

export function greetingBytes(flags = 3): Uint8Array<ArrayBuffer> {
  return new Writer(18).u64(NBDMAGIC).u64(IHAVEOPT).u16(flags).done();
}
export function optionReplyBytes(
  option: number,
  type: number,
  payload = new Uint8Array(0),
  length = payload.length,
): Uint8Array<ArrayBuffer> {
  return new Writer().u64(REPLY_MAGIC).u32(option).u32(type).u32(length).bytes(payload).done();
}
export function exportInfo(sizeBytes: number | bigint, flags: number): Uint8Array<ArrayBuffer> {
  return new Writer().u16(0).u64(sizeBytes).u16(flags).done();
}
export function blockInfo(minimum: number, preferred: number, maximum: number) {
  return new Writer().u16(3).u32(minimum).u32(preferred).u32(maximum).done();
}
export function simpleReply(cookie: bigint, errno = 0, data = new Uint8Array(0)) {
  return new Writer().u32(0x67446698).u32(errno).u64(cookie).bytes(data).done();
}
/** One chunk of a structured reply; flags 1: the last one. */
export function chunkBytes(
  cookie: bigint,
  flags: number,
  type: number,
  payload = new Uint8Array(0),
  length = payload.length,
): Uint8Array<ArrayBuffer> {
  const head = new Writer().u32(0x668e33ef).u16(flags).u16(type).u64(cookie).u32(length);
  return head.bytes(payload).done();
}
/** The same chunk with the longer header: the offset of its request, and 64 bits of length. */
export function extendedChunk(chunk: Uint8Array<ArrayBuffer>, offset: number | bigint) {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  const head = new Writer().u32(0x6e8a278c).bytes(chunk.subarray(4, 16)).u64(offset);
  return head.u64(view.getUint32(16)).bytes(chunk.subarray(20)).done();
}
export function dataPayload(offset: number | bigint, data: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Writer().u64(offset).bytes(data).done();
}
export function holePayload(offset: number, length: number): Uint8Array<ArrayBuffer> {
  return new Writer().u64(offset).u32(length).done();
}
export function errorPayload(errno: number, text = '', length = text.length) {
  return new Writer().u32(errno).u16(length).text(text).done();
}
export function statusPayload(id: number, ...numbers: readonly number[]) {
  const writer = new Writer().u32(id);
  for (const number of numbers) writer.u32(number);
  return writer.done();
}

/** The status of one context in the extended form. */
export function extendedStatusPayload(id: number, ...numbers: readonly (number | bigint)[]) {
  const writer = new Writer().u32(id).u32(numbers.length / 2);
  for (const number of numbers) writer.u64(number);
  return writer.done();
}

/** One connection of a server that says what a test wants it to say. */
export class ScriptedServer implements AsyncDisposable {
  readonly net: MemoryNet;
  readonly #listener: Listener;
  readonly #options: ScriptedOptions;
  readonly #bytes = new ByteQueue();
  #stream: ByteStream | undefined;
  #gone = false;
  #wake: () => void = () => undefined;
  /** The contexts that the client asked for. */
  asked: string[] = [];
  client: NbdClient | undefined;

  private constructor(net: MemoryNet, listener: Listener, options: ScriptedOptions) {
    this.net = net;
    this.#listener = listener;
    this.#options = options;
  }

  static async listen(options: ScriptedOptions = {}): Promise<ScriptedServer> {
    const { chunkBytes: size = 64 * 1024 } = options;
    const net = new MemoryNet({ chunkBytes: size });
    const listener = await net.listen('memory:0', (stream) => server.#accept(stream));
    const server = new ScriptedServer(net, listener, options);
    return server;
  }
  /** A client in transmission. */
  static async attached(
    options: ScriptedOptions = {},
    client: NbdClientOptions = {},
  ): Promise<ScriptedServer & { readonly client: NbdClient }> {
    const server = await ScriptedServer.listen(options);
    const [connected] = await Promise.all([server.connect(client), server.handshake()]);
    return Object.assign(server, { client: connected });
  }

  connect(options?: NbdClientOptions): Promise<NbdClient> {
    return connectNbd(this.net, this.#listener.address, 'disk', options);
  }
  get stream(): ByteStream {
    if (this.#stream === undefined) throw new Error('nobody has connected');
    return this.#stream;
  }
  /** True once the client has closed. */
  get gone(): boolean {
    return this.#gone;
  }

  send(...parts: readonly Uint8Array[]): void {
    for (const part of parts) this.stream.write(part);
  }
  /** The next bytes. @throws Error if the client closes before they are there */
  async take(length: number): Promise<Uint8Array<ArrayBuffer>> {
    while (this.#bytes.length < length) {
      if (this.#gone) throw new Error(`closed after ${this.#bytes.length} of ${length} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#bytes.shift(length);
  }
  /** Settles when the client has closed. */
  async left(): Promise<void> {
    while (!this.#gone) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** The client's flags and the next option. */
  async flags(): Promise<number> {
    return new DataView((await this.take(4)).buffer).getUint32(0);
  }
  async option(): Promise<{ option: number; data: Uint8Array<ArrayBuffer> }> {
    const view = new DataView((await this.take(16)).buffer);
    if (view.getBigUint64(0) !== IHAVEOPT) throw new Error('option magic');
    return { option: view.getUint32(8), data: await this.take(view.getUint32(12)) };
  }
  /** The handshake as an honest server does it. */
  async handshake(): Promise<void> {
    const { sizeBytes = 1 << 20, flags = FLAGS.all, contexts, blocks } = this.#options;
    const { form } = this;
    while (this.#stream === undefined) await new Promise((done) => setImmediate(done));
    this.send(greetingBytes());
    await this.flags();
    for (;;) {
      const { option, data } = await this.option();
      if (option === 11 || option === 8) {
        const agreed = option === (form === 'extended' ? 11 : 8) && form !== 'simple';
        this.send(optionReplyBytes(option, agreed ? 1 : 0x8000_0001));
      } else if (option === 10) {
        this.asked = queriesOf(data);
        const selected = (contexts ?? ['base:allocation']).filter((one) =>
          this.asked.includes(one),
        );
        for (const [index, name] of selected.entries()) {
          this.send(
            optionReplyBytes(
              10,
              4,
              new Writer()
                .u32(index + 1)
                .text(name)
                .done(),
            ),
          );
        }
        this.send(optionReplyBytes(10, 1));
      } else {
        this.send(optionReplyBytes(7, 3, exportInfo(sizeBytes, flags)));
        if (blocks !== undefined) this.send(optionReplyBytes(7, 3, blockInfo(...blocks)));
        this.send(optionReplyBytes(7, 1));
        return;
      }
    }
  }

  get form(): ReplyForm {
    return this.#options.form ?? 'structured';
  }

  async request(): Promise<SeenRequest> {
    const extended = this.form === 'extended';
    const view = new DataView((await this.take(extended ? 32 : 28)).buffer);
    if (view.getUint32(0) !== (extended ? 0x21e41c71 : 0x25609513)) {
      throw new Error('request magic');
    }
    const [flags, type] = [view.getUint16(4), view.getUint16(6)];
    const length = extended ? Number(view.getBigUint64(24)) : view.getUint32(24);
    const carries = extended ? (flags & 0x20) !== 0 : type === 1;
    const payload = await this.take(carries ? length : 0);
    const [cookie, at] = [view.getBigUint64(8), Number(view.getBigUint64(16))];
    return { flags, type, cookie, at, length, payload };
  }
  /** Answers everything with success until the client goes; returns what it asked. */
  async serve(): Promise<SeenRequest[]> {
    const seen: SeenRequest[] = [];
    for (;;) {
      const request = await this.request().catch(() => undefined);
      if (request === undefined || request.type === 2) return seen;
      seen.push(request);
      const { cookie, type, length, at } = request;
      if (type === 0 && this.form !== 'simple') {
        const data = chunkBytes(cookie, 1, 1, dataPayload(at, new Uint8Array(length)));
        this.send(this.form === 'extended' ? extendedChunk(data, at) : data);
      } else if (this.form === 'extended') {
        this.send(extendedChunk(chunkBytes(cookie, 1, 0), at));
      } else {
        this.send(simpleReply(cookie, 0, new Uint8Array(type === 0 ? length : 0)));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client?.[Symbol.asyncDispose]();
    this.#stream?.destroy();
    await this.#listener[Symbol.asyncDispose]();
  }

  #accept(stream: ByteStream): void {
    this.#stream = stream;
    this.#gone = false;
    const ended = () => {
      this.#gone = true;
      this.#wake();
    };
    stream.start({
      received: (chunk) => {
        this.#bytes.push(chunk);
        this.#wake();
      },
      ended,
      closed: ended,
    });
  }
}

function queriesOf(data: Uint8Array<ArrayBuffer>): string[] {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const found: string[] = [];
  let at = 4 + view.getUint32(0);
  const count = view.getUint32(at);
  at += 4;
  for (let index = 0; index < count; index += 1) {
    const length = view.getUint32(at);
    found.push(new TextDecoder().decode(data.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return found;
}
