import { Reader } from '../../base/bytes.ts';
import { SheepError } from '../../base/errors.ts';
import type { Described } from '../../contracts/block-device.ts';
import { CMD, ERRNO, nameOf } from '../constants.ts';
import { faultOf } from '../errno.ts';
import { Coverage } from './coverage.ts';
import { forPeople } from './words.ts';

export interface Question {
  readonly type: number;
  readonly flags: number;
  readonly at: number;
  readonly length: number;
  /** Follows the header: lent until the operation is settled. Not only a WRITE may have one. */
  readonly payload?: Uint8Array;
  /** Of a READ: `length` bytes, filled as they come. */
  readonly into?: Uint8Array;
  /** Of a BLOCK_STATUS: no more extents of a context are kept, and of no other contexts any. */
  readonly countMax?: number;
  readonly contextIds?: ReadonlySet<number>;
}

/** An error chunk may come for each of several places; more of them than this are no reply. */
const ERRORS_MAX = 1024;

/**
 * One request in flight: what its reply has said so far, and the rules that a reply must keep
 * ("Structured reply types"). Pure: `settled` is told once, when the outcome is known and nobody
 * needs the buffers any more.
 */
export class Asked {
  readonly question: Question;
  /** Of a BLOCK_STATUS: by context id. */
  readonly statuses = new Map<number, Described[]>();
  readonly #settled: (failure?: unknown) => void;
  readonly #coverage = new Coverage();
  #into: Uint8Array | undefined;
  #refusal: SheepError | undefined;
  #errors = 0;
  #outcome: { readonly failure?: unknown } | undefined;
  #lent = false;
  #told = false;

  constructor(question: Question, settled: (failure?: unknown) => void) {
    this.question = question;
    this.#into = question.into;
    this.#settled = settled;
  }

  /** The stream has the payload from here until `returned`. */
  lend(): void {
    this.#lent = true;
  }
  returned(): void {
    this.#lent = false;
    this.#tell();
  }

  /** Nobody waits for the answer any more: what still comes of it is thrown away. */
  abandon(reason: unknown): void {
    this.#into = undefined;
    this.#outcome ??= { failure: reason };
    this.#tell();
  }

  /**
   * The server has `length` bytes at `at` for us; they are `put` or `clear`ed next.
   * @throws SheepError for bytes outside of the request, and for those that came before
   */
  place(at: number, length: number): void {
    const from = at - this.question.at;
    const to = from + length;
    if (this.question.type !== CMD.READ || length === 0) throw this.broken('data nobody asked for');
    if (from < 0 || to > this.question.length) throw this.broken('data outside of the request');
    if (!this.#coverage.add(from, to)) throw this.broken('the same data twice');
  }
  put(at: number, bytes: Uint8Array): void {
    this.#into?.set(bytes, at - this.question.at);
  }
  clear(at: number, length: number): void {
    const from = at - this.question.at;
    this.#into?.fill(0, from, from + length);
  }

  /**
   * BLOCK_STATUS: context id u32, then length u32 and flags u32 for each extent; in the extended
   * form the id, how many extents follow u32, and 64 bits for each field.
   */
  status(payload: Uint8Array, extended: boolean): void {
    const { length, countMax = 1, contextIds } = this.question;
    const reader = new Reader(payload);
    const id = reader.u32('context id');
    const extentBytes = extended ? 16 : 8;
    const told = extended ? reader.u32('number of extents') : Math.floor(reader.left / extentBytes);
    if (contextIds?.has(id) !== true || this.statuses.has(id)) {
      throw this.broken('a status nobody asked for');
    }
    if (told === 0 || reader.left !== told * extentBytes) {
      throw this.broken('a status without extents');
    }
    const field = extended
      ? (name: string) => Number(reader.u64(name))
      : (name: string) => reader.u32(name);
    const found: { length: number; flags: number }[] = [];
    // The last one may reach beyond what was asked; what would come after it may not.
    for (let covered = 0; reader.left > 0; ) {
      const extent = { length: field('extent length'), flags: field('extent flags') };
      if (extent.length === 0 || covered >= length) throw this.broken('extents that cannot be');
      extent.length = Math.min(extent.length, length - covered);
      covered += extent.length;
      const last = found.at(-1);
      if (last?.flags === extent.flags) last.length += extent.length;
      else if (found.length < countMax) found.push(extent);
      else break;
    }
    this.statuses.set(id, found);
  }

  /** The server refuses; several refusals of one request are one. */
  refused(errno: number, text: Uint8Array): void {
    if (errno === 0) throw this.broken('an error without a number');
    this.#errors += 1;
    if (this.#errors > ERRORS_MAX) throw this.broken('errors without end');
    const { type, at, length } = this.question;
    const name = nameOf(ERRNO, errno);
    const words = forPeople(text);
    const said = words === '' ? name : `${words} (${name})`;
    const what = type === CMD.FLUSH ? 'FLUSH' : `${nameOf(CMD, type)} of ${length} bytes at ${at}`;
    this.#refusal ??= new SheepError(faultOf(errno), `${what}: ${said}`, { errno: name });
  }

  /** The reply is complete. @throws SheepError if it claims a success that it is not */
  finish(): void {
    const { type, length } = this.question;
    if (this.#refusal === undefined) {
      if (type === CMD.READ && this.#coverage.bytes !== length) throw this.broken('data left out');
      if (type === CMD.BLOCK_STATUS && this.statuses.size === 0) throw this.broken('no status');
    }
    this.#outcome ??= { failure: this.#refusal };
    this.#tell();
  }

  /** A reply that cannot be: the connection is of no more use. */
  broken(why: string): SheepError {
    const { type, at, length } = this.question;
    const about = `the server answers ${nameOf(CMD, type)} with ${why}`;
    return new SheepError('ERR_BAD_FRAME', about, { at, length });
  }

  #tell(): void {
    if (this.#lent || this.#told || this.#outcome === undefined) return;
    this.#told = true;
    this.#settled(this.#outcome.failure);
  }
}
