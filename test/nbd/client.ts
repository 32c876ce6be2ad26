import { Writer } from '../../src/base/bytes.ts';
import { MiB } from '../../src/base/units.ts';
import type { ByteStream, Net } from '../../src/contracts/net.ts';
import { CHUNK, CMD, OPT, REP } from '../../src/nbd/constants.ts';
import type { ReplyForm } from '../../src/nbd/validate.ts';
import { ByteQueue } from './byte-queue.ts';

/** A client's own idea of the wire, written from the protocol text and not from the server. */
const IHAVEOPT = 0x49484156454f5054n;
const NBDMAGIC = 0x4e42444d41474943n;
const READ_MAX_BYTES = 64 * MiB;
const REPLY_MAGIC = 0x3e889045565a9n;

export interface RequestFields {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number | bigint;
  readonly magic?: number;
  readonly payload?: Uint8Array;
}

/** @param extended  the header has 64 bits for the length, and a magic of its own */
export function requestBytes(fields: RequestFields, extended = false): Uint8Array<ArrayBuffer> {
  const { type, flags = 0, cookie = 0n, offset = 0, payload = new Uint8Array(0) } = fields;
  const length = fields.length ?? payload.length;
  const writer = new Writer(32 + payload.length)
    .u32(fields.magic ?? (extended ? 0x21e41c71 : 0x25609513))
    .u16(flags)
    .u16(type)
    .u64(cookie)
    .u64(offset);
  if (extended) writer.u64(length);
  else writer.u32(Number(length));
  return writer.bytes(payload).done();
}

/** What a BLOCK_STATUS carries to be told of some contexts only. */
export function statusPayload(length: number | bigint, ...ids: readonly number[]) {
  const writer = new Writer().u64(length);
  for (const id of ids) writer.u32(id);
  return writer.done();
}

export function optionBytes(option: number, data = new Uint8Array(0), length = data.length) {
  return new Writer(16 + data.length).u64(IHAVEOPT).u32(option).u32(length).bytes(data).done();
}

export function infoData(name: string, ...wanted: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(name);
  const writer = new Writer().u32(bytes.length).bytes(bytes).u16(wanted.length);
  for (const info of wanted) writer.u16(info);
  return writer.done();
}

export function metaData(name: string, ...queries: readonly string[]): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(name);
  const writer = new Writer().u32(bytes.length).bytes(bytes).u32(queries.length);
  for (const query of queries) {
    const text = new TextEncoder().encode(query);
    writer.u32(text.length).bytes(text);
  }
  return writer.done();
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** One reply to a request, all of its chunks together. */
export interface Reply {
  readonly cookie: bigint;
  readonly structured: boolean;
  readonly errno: number;
  readonly text: string;
  readonly chunks: readonly { type: number; offset: number; length: number }[];
  /** Of a READ: the bytes by offset, holes as zeroes. */
  readonly data: Uint8Array;
  /** Of BLOCK_STATUS: context id, then pairs of length and state; of the first chunk. */
  readonly status: readonly number[];
  /** The same of every chunk. */
  readonly statuses: readonly (readonly number[])[];
}

/** A structured reply of which more chunks may come. */
interface Partial extends Reply {
  readonly start: number;
  errno: number;
  text: string;
  readonly chunks: { type: number; offset: number; length: number }[];
  readonly status: number[];
  readonly statuses: number[][];
}

/** Each form of replies that a client can ask for. */
export const FORMS = ['simple', 'structured', 'extended'] as const satisfies ReplyForm[];

export interface GoOptions {
  /** 'structured' if absent. */
  readonly form?: ReplyForm;
  /** Selects base:allocation, or these contexts. */
  readonly meta?: boolean | readonly string[];
}

/** A client for tests: small steps, no mercy, and able to be wrong on purpose. */
export class TestClient {
  readonly stream: ByteStream;
  /** Settles when the connection is gone. */
  readonly gone: Promise<void>;
  readonly #bytes = new ByteQueue();
  #ended = false;
  #wake: () => void = () => undefined;
  readonly #asked = new Map<bigint, { offset: bigint; length: number }[]>();
  /** The form of requests that is sent, and the only one of replies that is taken. */
  extended = false;
  readonly #partial = new Map<bigint, Partial>();

  constructor(stream: ByteStream) {
    this.stream = stream;
    const gone = Promise.withResolvers<void>();
    this.gone = gone.promise;
    const ended = () => {
      this.#ended = true;
      this.#wake();
    };
    stream.start({
      received: (chunk) => {
        this.#bytes.push(chunk);
        this.#wake();
      },
      ended: () => {
        ended();
        stream.end();
      },
      closed: () => {
        ended();
        gone.resolve();
      },
    });
  }

  static async connect(net: Net, address: string): Promise<TestClient> {
    return new TestClient(await net.dial(address));
  }

  /** The next `length` bytes. @throws Error if the server closes before they are there */
  async take(length: number): Promise<Uint8Array<ArrayBuffer>> {
    while (this.#bytes.length < length) {
      if (this.#ended) throw new Error(`closed after ${this.#bytes.length} of ${length} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#bytes.shift(length);
  }
  /** Everything until the server closes. */
  async rest(): Promise<Uint8Array<ArrayBuffer>> {
    await this.gone;
    return this.#bytes.shift(this.#bytes.length);
  }
  send(...parts: readonly Uint8Array[]): void {
    for (const part of parts) this.stream.write(part);
  }
  /** Settles once the server has taken what was sent. */
  sent(part: Uint8Array): Promise<void> {
    return new Promise((done) => this.stream.write(part, done));
  }

  // Handshake

  /** Reads the greeting and answers with `flags`. */
  async greet(flags = 3): Promise<void> {
    const view = new DataView((await this.take(18)).buffer);
    const [magic, option, offered] = [
      view.getBigUint64(0),
      view.getBigUint64(8),
      view.getUint16(16),
    ];
    if (magic !== NBDMAGIC || option !== IHAVEOPT || offered !== 3) throw new Error('greeting');
    this.send(new Writer(4).u32(flags).done());
  }
  async optionReply(): Promise<OptionReply> {
    const view = new DataView((await this.take(20)).buffer);
    if (view.getBigUint64(0) !== REPLY_MAGIC) throw new Error('option reply magic');
    const data = await this.take(view.getUint32(16));
    return { option: view.getUint32(8), type: view.getUint32(12), data };
  }
  /** Sends an option; all its replies up to the last. */
  async option(option: number, data?: Uint8Array<ArrayBuffer>): Promise<OptionReply[]> {
    this.send(optionBytes(option, data));
    return this.optionReplies();
  }
  async optionReplies(): Promise<OptionReply[]> {
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === REP.ACK || reply.type >= 0x8000_0000) return replies;
    }
  }
  /** The whole way into transmission. */
  async go(name: string, options: GoOptions = {}): Promise<void> {
    const { form = 'structured', meta = false } = options;
    await this.greet();
    if (form === 'extended') await this.#agreed(OPT.EXTENDED_HEADERS);
    if (form === 'structured') await this.#agreed(OPT.STRUCTURED_REPLY);
    const contexts = meta === true ? ['base:allocation'] : meta || [];
    if (meta) await this.#agreed(OPT.SET_META_CONTEXT, metaData(name, ...contexts));
    await this.#agreed(OPT.GO, infoData(name));
    this.extended = form === 'extended';
  }
  async #agreed(option: number, data?: Uint8Array<ArrayBuffer>): Promise<void> {
    const last = (await this.option(option, data)).at(-1);
    if (last?.type !== REP.ACK) throw new Error(`option ${option} was refused`);
  }

  // Transmission

  /** Sends requests, and remembers what each READ asked for. */
  ask(...requests: readonly RequestFields[]): void {
    for (const fields of requests) {
      const { cookie = 0n, type, offset = 0, length = 0 } = fields;
      const asked = this.#asked.get(cookie) ?? [];
      // What is longer is refused, and needs no room here.
      const room = type === CMD.READ && length <= READ_MAX_BYTES ? Number(length) : 0;
      asked.push({ offset: BigInt(offset), length: room });
      this.#asked.set(cookie, asked);
      this.send(requestBytes(fields, this.extended));
    }
  }
  request(fields: RequestFields): Promise<Reply> {
    this.ask(fields);
    return this.reply();
  }
  async read(offset: number, length: number): Promise<Uint8Array> {
    const reply = await this.request({ type: CMD.READ, offset, length });
    if (reply.errno !== 0) throw new Error(`READ failed with ${reply.errno}: ${reply.text}`);
    return reply.data;
  }

  /** The next reply that is complete; chunks of others are kept until theirs are. */
  async reply(): Promise<Reply> {
    for (;;) {
      const magic = new DataView((await this.take(4)).buffer).getUint32(0);
      if (magic === 0x67446698 && !this.extended) return this.#simpleReply();
      if (magic !== (this.extended ? 0x6e8a278c : 0x668e33ef)) {
        throw new Error(`reply magic ${magic.toString(16)}`);
      }
      const complete = await this.#chunk();
      if (complete !== undefined) return complete;
    }
  }

  async #simpleReply(): Promise<Reply> {
    const view = new DataView((await this.take(12)).buffer);
    const [errno, cookie] = [view.getUint32(0), view.getBigUint64(4)];
    const { length } = this.#answered(cookie);
    const data = errno === 0 ? await this.take(length) : new Uint8Array(0);
    return {
      cookie,
      structured: false,
      errno,
      text: '',
      chunks: [],
      data,
      status: [],
      statuses: [],
    };
  }

  async #chunk(): Promise<Reply | undefined> {
    const header = new DataView((await this.take(this.extended ? 28 : 16)).buffer);
    const [flags, type, cookie] = [
      header.getUint16(0),
      header.getUint16(2),
      header.getBigUint64(4),
    ];
    if (this.extended) this.#checkOffset(cookie, header.getBigUint64(12));
    const length = this.extended ? Number(header.getBigUint64(20)) : header.getUint32(12);
    const payload = await this.take(length);
    const partial = this.#partial.get(cookie) ?? this.#begin(cookie);
    this.#partial.set(cookie, partial);
    const view = new DataView(payload.buffer);
    if (type === CHUNK.OFFSET_DATA || type === CHUNK.OFFSET_HOLE) {
      const offset = Number(view.getBigUint64(0));
      const hole = type === CHUNK.OFFSET_HOLE;
      const bytes = hole ? new Uint8Array(view.getUint32(8)) : payload.subarray(8);
      partial.data.set(bytes, offset - partial.start);
      partial.chunks.push({ type, offset, length: bytes.length });
    } else if (type === CHUNK.BLOCK_STATUS_EXT && this.extended) {
      const numbers = extendedStatus(view);
      if (partial.statuses.length === 0) partial.status.push(...numbers);
      partial.statuses.push(numbers);
    } else if (type === CHUNK.BLOCK_STATUS && !this.extended) {
      const numbers = Array.from({ length: payload.length / 4 }, (_, at) => view.getUint32(4 * at));
      if (partial.statuses.length === 0) partial.status.push(...numbers);
      partial.statuses.push(numbers);
    } else if (type === CHUNK.ERROR) {
      partial.errno = view.getUint32(0);
      partial.text = new TextDecoder().decode(payload.subarray(6, 6 + view.getUint16(4)));
    } else if (type !== CHUNK.NONE) {
      throw new Error(`chunk of type ${type}`);
    }
    if ((flags & 1) === 0) return undefined;
    this.#partial.delete(cookie);
    this.#answered(cookie);
    return partial;
  }
  #begin(cookie: bigint): Partial {
    const { offset, length } = this.#asked.get(cookie)?.[0] ?? { offset: 0n, length: 0 };
    const data = new Uint8Array(length);
    return {
      cookie,
      structured: true,
      start: Number(offset),
      errno: 0,
      text: '',
      chunks: [],
      data,
      status: [],
      statuses: [],
    };
  }
  #checkOffset(cookie: bigint, offset: bigint): void {
    const asked = this.#asked.get(cookie) ?? [];
    if (!asked.some((one) => one.offset === offset)) throw new Error(`a reply's offset: ${offset}`);
  }
  #answered(cookie: bigint): { readonly length: number } {
    const asked = this.#asked.get(cookie)?.shift();
    if (asked === undefined) throw new Error(`a reply that nobody asked for: ${cookie}`);
    return asked;
  }
}

/** Context id, then pairs of length and state, from the form with 64 bits for both. */
function extendedStatus(view: DataView): number[] {
  const count = view.getUint32(4);
  if (view.byteLength !== 8 + 16 * count) throw new Error(`${count} extents in a status`);
  const numbers = Array.from({ length: 2 * count }, (_, index) =>
    Number(view.getBigUint64(8 + 8 * index)),
  );
  return [view.getUint32(0), ...numbers];
}
