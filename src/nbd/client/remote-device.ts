import { Writer } from '../../base/bytes.ts';
import { SheepError } from '../../base/errors.ts';
import { forEachAtMost } from '../../base/parallel.ts';
import { KiB, roundDown } from '../../base/units.ts';
import type {
  BlockDevice,
  Described,
  DeviceInfo,
  Extent,
  ZeroCall,
} from '../../contracts/block-device.ts';
import type { Call, WriteCall } from '../../contracts/call.ts';
import { BASE_ALLOCATION, CMD, CMD_FLAG, STATE_FLAG } from '../constants.ts';
import type { Question } from './asked.ts';
import type { Link } from './link.ts';
import { effectStep, type Piece, payloadStep, pieces, wholeBlocks } from './pieces.ts';
import { offers, type ServerTerms } from './terms.ts';

/** Pieces of one operation under way at once. */
const PIECES_AT_ONCE = 8;
/** For servers that cannot write zeroes by themselves. */
const ZEROES = new Uint8Array(256 * KiB);

/**
 * The export as a BlockDevice. Ranges have to be multiples of the server's minimum block; see
 * aligned.ts for those that are not. What a server lacks is made of what it has, or refused.
 */
export class RemoteDevice implements BlockDevice {
  readonly info: DeviceInfo;
  readonly #link: Link;
  readonly #terms: ServerTerms;
  readonly #step: number;
  readonly #effectStep: number;
  readonly #contextIds: ReadonlySet<number>;

  constructor(link: Link, terms: ServerTerms) {
    this.#link = link;
    this.#terms = terms;
    this.#step = payloadStep(terms.blocks);
    this.#effectStep = effectStep(terms.form);
    this.#contextIds = new Set(terms.contexts.values());
    const { sizeBytes, description, contexts } = terms;
    const others = [...contexts.keys()].filter((name) => name !== BASE_ALLOCATION);
    const readOnly = offers(terms, 'READ_ONLY');
    this.info = { sizeBytes, readOnly, description, contexts: others };
  }

  async read(at: number, into: Uint8Array, call: Call = {}): Promise<void> {
    await this.#inPieces(at, into.length, this.#step, (piece) => {
      const from = piece.at - at;
      const part = into.subarray(from, from + piece.length);
      const question = { ...piece, type: CMD.READ, flags: 0, into: part };
      return this.#link.ask(question, call.signal);
    });
  }

  async write(at: number, from: Uint8Array, call: WriteCall): Promise<void> {
    this.#refuseReadOnly();
    await this.#durably(call, (fua) =>
      this.#inPieces(at, from.length, this.#step, (piece) => {
        const payload = from.subarray(piece.at - at, piece.at - at + piece.length);
        return this.#link.ask({ ...piece, type: CMD.WRITE, flags: fua, payload }, call.signal);
      }),
    );
  }

  async flush(call: Call = {}): Promise<void> {
    if (offers(this.#terms, 'SEND_FLUSH')) {
      await this.#link.ask({ type: CMD.FLUSH, flags: 0, at: 0, length: 0 }, call.signal);
    } else if (!this.info.readOnly) {
      throw new SheepError('ERR_UNSUPPORTED', 'the server cannot flush: it promises no durability');
    }
  }

  /**
   * As zeroes that need no space, not as NBD_CMD_TRIM: after that one the bytes could be anything,
   * and blocks that are half inside of the range could change too.
   */
  async trim(at: number, length: number, call: WriteCall): Promise<void> {
    this.#refuseReadOnly();
    const whole = wholeBlocks({ at, length }, this.info.sizeBytes);
    if (whole.length === 0) return;
    const zero = { ...call, keepAllocated: false, fastOnly: false };
    await this.writeZeroes(whole.at, whole.length, zero);
  }

  async writeZeroes(at: number, length: number, call: ZeroCall): Promise<void> {
    this.#refuseReadOnly();
    const zeroes = offers(this.#terms, 'SEND_WRITE_ZEROES');
    if (call.fastOnly && !(zeroes && offers(this.#terms, 'SEND_FAST_ZERO'))) {
      throw new SheepError('ERR_NOT_FAST', 'the server does not tell what would be fast');
    }
    const hole = call.keepAllocated ? CMD_FLAG.NO_HOLE : 0;
    const fast = call.fastOnly ? CMD_FLAG.FAST_ZERO : 0;
    const step = zeroes ? this.#effectStep : Math.min(this.#step, ZEROES.length);
    await this.#durably(call, (fua) =>
      this.#inPieces(at, length, step, (piece) => {
        const question = zeroes
          ? { ...piece, type: CMD.WRITE_ZEROES, flags: fua | hole | fast }
          : { ...piece, type: CMD.WRITE, flags: fua, payload: ZEROES.subarray(0, piece.length) };
        return this.#link.ask(question, call.signal);
      }),
    );
  }

  async extents(at: number, length: number, countMax: number, call: Call = {}): Promise<Extent[]> {
    const id = this.#terms.contexts.get(BASE_ALLOCATION);
    // A server that cannot tell: data is always a legal answer.
    if (id === undefined) return [{ length, hole: false, zero: false }];
    const found = await this.#status(id, at, length, countMax, call);
    return joined(
      found.map((one) => ({
        length: one.length,
        hole: (one.flags & STATE_FLAG.HOLE) !== 0,
        zero: (one.flags & STATE_FLAG.ZERO) !== 0,
      })),
      (a, b) => a.hole === b.hole && a.zero === b.zero,
    );
  }

  async describe(
    context: string,
    at: number,
    length: number,
    countMax: number,
    call: Call = {},
  ): Promise<Described[]> {
    const id = this.#terms.contexts.get(context);
    if (id === undefined) {
      throw new SheepError('ERR_UNSUPPORTED', `the server was not asked for ${context}`, {
        context,
      });
    }
    return await this.#status(id, at, length, countMax, call);
  }

  async prefetch(at: number, length: number, call: Call = {}): Promise<void> {
    if (!offers(this.#terms, 'SEND_CACHE')) return;
    await this.#inPieces(at, length, this.#step, (piece) =>
      this.#link.ask({ ...piece, type: CMD.CACHE, flags: 0 }, call.signal),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link.close();
  }

  async #status(
    id: number,
    at: number,
    length: number,
    countMax: number,
    call: Call,
  ): Promise<Described[]> {
    const flags = countMax === 1 ? CMD_FLAG.REQ_ONE : 0;
    const covered = Math.min(length, this.#effectStep);
    const question = { type: CMD.BLOCK_STATUS, flags, at, length: covered, countMax };
    const answer = await this.#link.ask(
      this.#oneOfMany
        ? { ...question, ...onlyOf(id, covered) }
        : { ...question, contextIds: this.#contextIds },
      call.signal,
    );
    const found = answer.statuses.get(id);
    if (found === undefined) throw answer.broken('the status of another context');
    return found;
  }

  /** A status would be told of other contexts too, unless the request names its own. */
  get #oneOfMany(): boolean {
    return this.#contextIds.size > 1 && offers(this.#terms, 'BLOCK_STATUS_PAYLOAD');
  }

  /** Runs `work` with the flag that makes it durable, or flushes after it where there is none. */
  async #durably({ durable, signal }: WriteCall, work: (fua: number) => Promise<void>) {
    const fua = durable && offers(this.#terms, 'SEND_FUA');
    await work(fua ? CMD_FLAG.FUA : 0);
    if (durable && !fua) await this.flush(signal === undefined ? {} : { signal });
  }

  /** One request for each piece; a single one without detour. */
  async #inPieces(
    at: number,
    length: number,
    step: number,
    ask: (piece: Piece) => Promise<unknown>,
  ): Promise<void> {
    if (length === 0) return;
    const first = pieces(at, length, step);
    if (roundDown(at, step) + step >= at + length) await ask({ at, length });
    else await forEachAtMost(PIECES_AT_ONCE, first, ask);
  }

  #refuseReadOnly(): void {
    if (this.info.readOnly) throw new SheepError('ERR_READ_ONLY', 'the export is read-only');
  }
}

/** What a BLOCK_STATUS for one context carries: length u64, context id u32. */
function onlyOf(id: number, length: number): Pick<Question, 'payload' | 'contextIds'> {
  return { payload: new Writer().u64(length).u32(id).done(), contextIds: new Set([id]) };
}

/** Neighbours that say the same are one. */
function joined(extents: readonly Extent[], same: (a: Extent, b: Extent) => boolean): Extent[] {
  const found: Extent[] = [];
  for (const extent of extents) {
    const last = found.at(-1);
    if (last === undefined || !same(last, extent)) found.push(extent);
    else found[found.length - 1] = { ...last, length: last.length + extent.length };
  }
  return found;
}
