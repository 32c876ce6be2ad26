import { BLOCK_BYTES, KiB, MiB, roundDown } from '../../src/base/units.ts';
import type { Net } from '../../src/contracts/net.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { CMD, CMD_FLAG } from '../../src/nbd/constants.ts';
import { type RequestFields, TestClient } from '../nbd/client.ts';
import type { StampedDisk } from './stamped-disk.ts';

/** Requests in flight of one connection. */
const LANES = 6;
/** Half of all requests go to the beginning of the disk, so that many meet at one block. */
const HOT_BYTES = 2 * MiB;
const WRITE_BYTES_MAX = MiB;
const ZERO_BYTES_MAX = 8 * MiB;
const PLACES_TRIED = 20;

/** What the clients saw before the daemon was gone. */
export interface LoadCounts {
  writes: number;
  writtenBytes: number;
  zeroes: number;
  trims: number;
  flushes: number;
  /** Requests that never got an answer. */
  unanswered: number;
  /** Errors that nobody should see, as sentences. */
  readonly errors: string[];
}

interface Issued {
  readonly request: RequestFields;
  readonly answered: () => void;
  readonly count: () => void;
}

/** Several connections that write stamped blocks of one export until the daemon is gone. */
export class StampedLoad {
  readonly counts: LoadCounts = {
    ...{ writes: 0, writtenBytes: 0, zeroes: 0, trims: 0, flushes: 0 },
    ...{ unanswered: 0, errors: [] },
  };
  readonly #disk: StampedDisk;
  readonly #random: Random;
  #answers = 0;
  #awaited: { readonly answers: number; readonly reached: () => void } | undefined;

  constructor(disk: StampedDisk, random: Random) {
    this.#disk = disk;
    this.#random = random;
  }

  /** Settles once every connection is gone. */
  async run(net: Net, addresses: readonly string[], name: string): Promise<void> {
    const clients = await Promise.all(
      addresses.map(async (address) => {
        const client = await TestClient.connect(net, address);
        await client.go(name);
        return new Pipelined(client, this.counts.errors);
      }),
    );
    await Promise.all(
      clients.flatMap((client) => Array.from({ length: LANES }, () => this.#lane(client))),
    );
  }

  /** Settles once so many requests were answered. */
  answers(count: number): Promise<void> {
    return new Promise((reached) => {
      this.#awaited = { answers: count, reached };
    });
  }

  async #lane(client: Pipelined): Promise<void> {
    for (;;) {
      const { request, answered, count } = this.#draw();
      const errno = await client.request(request);
      if (errno === undefined) {
        this.counts.unanswered += 1;
        return;
      }
      if (errno === 0) answered();
      else this.counts.errors.push(`${JSON.stringify(request)} was answered with ${errno}`);
      count();
      this.#answers += 1;
      if (this.#answers === this.#awaited?.answers) this.#awaited.reached();
    }
  }

  #draw(): Issued {
    const dice = this.#random.below(100);
    const fua = this.#random.below(8) === 0 ? CMD_FLAG.FUA : 0;
    if (dice < 55) return this.#write(this.#whole(WRITE_BYTES_MAX), fua);
    if (dice < 75) return this.#write(this.#ragged(), fua);
    if (dice < 83) return this.#trim(this.#anyRange(), fua);
    if (dice < 92) return this.#zero(this.#anyRange(), fua);
    const count = () => {
      this.counts.flushes += 1;
    };
    return { request: { type: CMD.FLUSH }, answered: () => undefined, count };
  }

  #write(range: Range | undefined, flags: number): Issued {
    if (range === undefined) return this.#draw();
    const { payload, answered } = this.#disk.write(range.at, range.length);
    const count = () => {
      this.counts.writes += 1;
      this.counts.writtenBytes += range.length;
    };
    return { request: { type: CMD.WRITE, flags, offset: range.at, payload }, answered, count };
  }

  #trim(range: Range | undefined, flags: number): Issued {
    if (range === undefined) return this.#draw();
    const { at: offset, length } = range;
    const count = () => {
      this.counts.trims += 1;
    };
    const answered = this.#disk.trim(offset, length);
    return { request: { type: CMD.TRIM, flags, offset, length }, answered, count };
  }

  #zero(range: Range | undefined, fua: number): Issued {
    if (range === undefined) return this.#draw();
    const { at: offset, length } = range;
    const flags = fua | (this.#random.below(2) === 0 ? CMD_FLAG.NO_HOLE : 0);
    const count = () => {
      this.counts.zeroes += 1;
    };
    const answered = this.#disk.zero(offset, length);
    return { request: { type: CMD.WRITE_ZEROES, flags, offset, length }, answered, count };
  }

  /** Whole blocks, small runs likelier than large ones. */
  #whole(maxBytes: number): Range | undefined {
    const blocks = this.#upTo(maxBytes / BLOCK_BYTES);
    return this.#place(blocks * BLOCK_BYTES, BLOCK_BYTES);
  }

  /** Any bytes, or sectors. */
  #ragged(): Range | undefined {
    const unit = this.#random.below(2) === 0 ? 1 : 512;
    return this.#place(this.#upTo((64 * KiB) / unit) * unit, unit);
  }

  #anyRange(): Range | undefined {
    return this.#random.below(4) === 0 ? this.#ragged() : this.#whole(ZERO_BYTES_MAX);
  }

  /** From 1 to `max`, each power of two as likely as the next. */
  #upTo(max: number): number {
    const limit = 2 ** this.#random.below(Math.log2(max) + 1);
    return limit + this.#random.below(Math.min(limit, max - limit + 1));
  }

  /** Somewhere where the outcome stays foreseeable; undefined if no such place is found. */
  #place(length: number, unit: number): Range | undefined {
    for (let tried = 0; tried < PLACES_TRIED; tried += 1) {
      const hot = this.#random.below(2) === 0 && length < HOT_BYTES;
      const end = hot ? HOT_BYTES : this.#disk.sizeBytes;
      const at = roundDown(this.#random.below(end - length + 1), unit);
      if (this.#disk.isFree(at, length)) return { at, length };
    }
    return undefined;
  }
}

interface Range {
  readonly at: number;
  readonly length: number;
}

/** A connection with many requests in flight, answered in any order. */
class Pipelined {
  readonly #client: TestClient;
  readonly #waiting = new Map<bigint, (errno: number | undefined) => void>();
  #cookie = 0n;
  #gone = false;

  constructor(client: TestClient, errors: string[]) {
    this.#client = client;
    void this.#receive(errors);
  }

  /** Settles with the error number of the answer, or undefined if the daemon was gone before it. */
  request(fields: RequestFields): Promise<number | undefined> {
    if (this.#gone) return Promise.resolve(undefined);
    this.#cookie += 1n;
    const cookie = this.#cookie;
    return new Promise((settle) => {
      this.#waiting.set(cookie, settle);
      this.#client.ask({ ...fields, cookie });
    });
  }

  async #receive(errors: string[]): Promise<void> {
    try {
      for (;;) {
        const { cookie, errno } = await this.#client.reply();
        this.#waiting.get(cookie)?.(errno);
        this.#waiting.delete(cookie);
      }
    } catch (error) {
      if (!/^closed after/.test(String((error as Error).message))) errors.push(String(error));
    }
    this.#gone = true;
    this.#client.stream.destroy();
    for (const settle of this.#waiting.values()) settle(undefined);
  }
}
