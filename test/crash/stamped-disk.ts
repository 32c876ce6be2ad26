import { BLOCK_BYTES } from '../../src/base/units.ts';
import { BlockModel } from './block-model.ts';

/** The stamp's fields beside the sequence share one word of 32 bits: disks of up to 4 GiB. */
const BLOCK_BITS = 20;
const RUN_MAX = 2 ** 12 - 1;
const ZEROES = 0;

/** What a request left of a block of which it covered only a part. */
interface Patch {
  readonly base: number;
  readonly from: number;
  readonly to: number;
  /** 0: zeroes. */
  readonly sequence: number;
}

/** What of one block a request covers. */
interface Part {
  readonly block: number;
  readonly from: number;
  readonly to: number;
}

/**
 * What the clients of a disk know of it. Every 8 bytes of a write say which run, which block and
 * which request they belong to, so that a torn block, a lost one and one in the wrong place all
 * show. A state of a block is the sequence of the request that filled it, or a number of its own
 * for one that was patched.
 */
export class StampedDisk {
  readonly sizeBytes: number;
  readonly #run: number;
  #model: BlockModel;
  readonly #patches = new Map<number, Patch>();
  /** Requests in flight that touch each block, and blocks of which one of them covers a part. */
  readonly #inFlight: Uint32Array;
  readonly #patching = new Set<number>();
  #sequence = ZEROES;
  #now = 0;

  /** @param run  1 to 4095: tells this run's stamps from those of any other */
  constructor(blocks: number, run: number) {
    if (blocks > 2 ** BLOCK_BITS || run < 1 || run > RUN_MAX) throw new Error('no such stamps');
    this.sizeBytes = blocks * BLOCK_BYTES;
    this.#run = run;
    this.#model = new BlockModel(blocks);
    this.#inFlight = new Uint32Array(blocks);
  }

  /**
   * False while a request in flight overlaps in a way of which the outcome has too many forms: a
   * part of a block is written only while nobody else is at that block.
   */
  isFree(at: number, length: number): boolean {
    return parts(at, length).every(
      (part) =>
        !this.#patching.has(part.block) && (isWhole(part) || this.#inFlight[part.block] === 0),
    );
  }

  /** A WRITE begins: its payload, and what to call with its answer. */
  write(at: number, length: number): { payload: Uint8Array<ArrayBuffer>; answered: () => void } {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const payload = new Uint8Array(length);
    for (const { block, from, to } of parts(at, length)) {
      const bytes = this.#stamped(block, sequence).subarray(from, to);
      payload.set(bytes, block * BLOCK_BYTES + from - at);
    }
    return { payload, answered: this.#begin(parts(at, length), sequence) };
  }

  /** A WRITE_ZEROES begins; returns what to call with its answer. */
  zero(at: number, length: number): () => void {
    return this.#begin(parts(at, length), ZEROES);
  }

  /** A TRIM begins: only whole blocks change. */
  trim(at: number, length: number): () => void {
    return this.#begin(parts(at, length).filter(isWhole), ZEROES);
  }

  /**
   * The daemon was killed and serves again: holds all of its disk against what was promised. What
   * is there now is where everything goes on from.
   * @returns a sentence for each block that holds what it may not
   */
  reopen(contents: Uint8Array): string[] {
    const next = new BlockModel(this.#model.blocks);
    const wrong: string[] = [];
    for (let block = 0; block < this.#model.blocks; block += 1) {
      const bytes = contents.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      const allowed = [...this.#model.allowed(block, this.#now, 'kill')];
      const found = allowed.find((state) => same(bytes, this.#render(block, state)));
      if (found !== undefined) {
        next.begin(block, block + 1, found, 0)(0);
        continue;
      }
      const expected = allowed.map((state) => this.describe(this.#render(block, state)));
      wrong.push(`block ${block} holds ${this.describe(bytes)}; allowed: ${expected.join(' or ')}`);
    }
    this.#model = next;
    this.#now = 1;
    this.#inFlight.fill(0);
    this.#patching.clear();
    return wrong;
  }

  /** What the stamps in a block say, run by run. */
  describe(bytes: Uint8Array): string {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const runs: { from: number; text: string }[] = [];
    for (let at = 0; at < bytes.length; at += 8) {
      const text = this.#describeWord(view.getUint32(at, true), view.getUint32(at + 4, true));
      if (runs.at(-1)?.text !== text) runs.push({ from: at, text });
    }
    if (runs.length === 1) return runs[0]?.text ?? '';
    return `(${runs.map(({ from, text }) => `from ${from} ${text}`).join(', ')})`;
  }

  #describeWord(sequence: number, place: number): string {
    if (sequence === 0 && place === 0) return 'zeroes';
    const [run, block] = [Math.floor(place / 2 ** BLOCK_BITS), place % 2 ** BLOCK_BITS];
    const whose = run === this.#run ? '' : ` of run ${run}`;
    return `request ${sequence} for block ${block}${whose}`;
  }

  #begin(touched: readonly Part[], sequence: number): () => void {
    const answers: ((now: number) => void)[] = [];
    this.#now += 1;
    for (const part of touched) {
      const { block, from, to } = part;
      this.#inFlight[block] = (this.#inFlight[block] as number) + 1;
      if (isWhole(part)) {
        answers.push(this.#model.begin(block, block + 1, sequence, this.#now));
        continue;
      }
      this.#patching.add(block);
      for (const base of this.#model.allowed(block, this.#now, 'kill')) {
        this.#sequence += 1;
        this.#patches.set(this.#sequence, { base, from, to, sequence });
        answers.push(this.#model.begin(block, block + 1, this.#sequence, this.#now));
      }
    }
    return () => {
      this.#now += 1;
      for (const answer of answers) answer(this.#now);
      for (const { block } of touched) {
        this.#inFlight[block] = (this.#inFlight[block] as number) - 1;
        this.#patching.delete(block);
      }
    };
  }

  #render(block: number, state: number): Uint8Array {
    const patch = this.#patches.get(state);
    if (patch === undefined) return this.#stamped(block, state);
    const bytes = this.#render(block, patch.base);
    const { from, to, sequence } = patch;
    bytes.set(this.#stamped(block, sequence).subarray(from, to), from);
    return bytes;
  }

  #stamped(block: number, sequence: number): Uint8Array {
    const words = new BigUint64Array(BLOCK_BYTES / 8);
    const place = this.#run * 2 ** BLOCK_BITS + block;
    if (sequence !== ZEROES) words.fill((BigInt(place) << 32n) | BigInt(sequence));
    return new Uint8Array(words.buffer);
  }
}

function parts(at: number, length: number): Part[] {
  const end = at + length;
  const found: Part[] = [];
  for (let block = Math.floor(at / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) {
    const start = block * BLOCK_BYTES;
    const from = Math.max(at - start, 0);
    found.push({ block, from, to: Math.min(end - start, BLOCK_BYTES) });
  }
  return found;
}

function isWhole({ from, to }: Part): boolean {
  return to - from === BLOCK_BYTES;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
