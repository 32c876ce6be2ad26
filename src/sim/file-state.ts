import { SheepError } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { Fate } from './fate.ts';
import { afterSync, certain, countVersions, type Version, versionOfAge } from './versions.ts';

/** Never altered once it is in a file; undefined is a hole. */
type Block = Uint8Array | undefined;

/** Of a block that is reserved and was not written. */
const ZERO_BLOCK = new Uint8Array(BLOCK_BYTES);

/** Blocks of one file system. */
export class Room {
  readonly totalBlocks: number;
  usedBlocks = 0;

  constructor(totalBlocks: number) {
    this.totalBlocks = totalBlocks;
  }

  /** @throws SheepError `ERR_NO_SPACE` if not one block is free */
  check(): void {
    if (this.usedBlocks >= this.totalBlocks) {
      throw new SheepError('ERR_NO_SPACE', 'the simulated disk is full', { errno: 'ENOSPC' });
    }
  }
}

/**
 * The bytes of one file: what readers see, and for each block and the size every state since it was
 * last synced. Forks share everything until one of them changes.
 */
export class FileState {
  readonly #room: Room;
  #blocks = new Map<number, Version<Block>>();
  /** Blocks that have a state to fall back to. */
  #unsynced = new Set<number>();
  #size: Version<number> = certain(0);
  #doubtful = 0;
  #allocated = 0;
  #shared = false;

  constructor(room: Room) {
    this.#room = room;
  }

  get sizeBytes(): number {
    return this.#size.value;
  }
  get allocatedBlocks(): number {
    return this.#allocated;
  }

  read(at: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.sizeBytes - at));
    for (const piece of pieces(at, length)) {
      const block = this.#live(piece.index);
      const target = into.subarray(piece.done, piece.done + piece.length);
      if (block) target.set(block.subarray(piece.start, piece.start + piece.length));
      else target.fill(0);
    }
    return length;
  }

  /** Keeps `bytes`, which nobody may alter from now on. `lands`: which blocks it reaches. */
  write(at: number, bytes: Uint8Array, change: number, lands: () => boolean = always): void {
    for (const { index, start, length, done } of pieces(at, bytes.length)) {
      if (!lands()) continue;
      const from = bytes.subarray(done, done + length);
      this.#put(index, length === BLOCK_BYTES ? from : this.#patched(index, start, from), change);
      this.#grow(at + done + length, change);
    }
  }

  punch(at: number, length: number, change: number, lands: () => boolean = always): void {
    for (const index of this.#held(at, at + length)) {
      const start = Math.max(0, at - index * BLOCK_BYTES);
      const end = Math.min(BLOCK_BYTES, at + length - index * BLOCK_BYTES);
      if (this.#live(index) === undefined || !lands()) continue;
      const whole = start === 0 && end === BLOCK_BYTES;
      const zeroes = ZERO_BLOCK.subarray(start, end);
      this.#put(index, whole ? undefined : this.#patched(index, start, zeroes), change);
    }
  }

  zero(at: number, length: number, change: number, lands: () => boolean = always): void {
    for (const piece of pieces(at, length)) {
      if (!lands()) continue;
      const whole = piece.length === BLOCK_BYTES;
      const zeroes = ZERO_BLOCK.subarray(0, piece.length);
      const block = whole ? ZERO_BLOCK : this.#patched(piece.index, piece.start, zeroes);
      this.#put(piece.index, block, change);
      this.#grow(at + piece.done + piece.length, change);
    }
  }

  truncate(sizeBytes: number, change: number): void {
    if (sizeBytes < this.sizeBytes) this.punch(sizeBytes, this.sizeBytes - sizeBytes, change);
    this.#setSize(sizeBytes, change);
  }

  /** A sync that covered all changes up to `covered` has settled. */
  synced(covered: number): void {
    this.#size = afterSync(this.#size, covered, this.#doubtful);
    if (this.#unsynced.size === 0) return;
    this.#own();
    for (const index of this.#unsynced) {
      const left = afterSync(this.#blocks.get(index)!, covered, this.#doubtful);
      if (left.older === undefined) this.#unsynced.delete(index);
      if (left.older === undefined && left.value === undefined) this.#blocks.delete(index);
      else this.#blocks.set(index, left);
    }
  }

  /**
   * A sync of all changes up to `covered` has failed. As in Linux, the page cache takes them for
   * clean from now on: no later sync helps them.
   */
  syncFailed(covered: number): void {
    this.#doubtful = Math.max(this.#doubtful, covered);
  }

  /** The same file on another disk; who makes it counts its blocks. */
  fork(room: Room): FileState {
    const twin = new FileState(room);
    this.#shared = true;
    twin.#shared = true;
    twin.#blocks = this.#blocks;
    twin.#unsynced = this.#unsynced;
    twin.#size = this.#size;
    twin.#doubtful = this.#doubtful;
    twin.#allocated = this.#allocated;
    return twin;
  }

  /** Falls back to a state that a power cut may leave; all that is left is certain. */
  fallBack(fate: Fate): void {
    this.#doubtful = 0;
    const newest = this.#size;
    this.#size = certain(versionOfAge(newest, fate.age(countVersions(newest))));
    if (this.#unsynced.size === 0 && newest.value <= this.sizeBytes) return;
    this.#own();
    for (const index of this.#unsynced) {
      const version = this.#blocks.get(index)!;
      this.#settle(index, versionOfAge(version, fate.age(countVersions(version))));
    }
    this.#unsynced.clear();
    for (const [index, { value }] of this.#blocks) {
      const inside = Math.max(0, this.sizeBytes - index * BLOCK_BYTES);
      if (inside === 0) this.#settle(index, undefined);
      else if (inside < BLOCK_BYTES && value) {
        this.#settle(index, this.#patched(index, inside, ZERO_BLOCK.subarray(inside)));
      }
    }
  }

  /** The medium turned one bit over, in every state there is. */
  flipBit(at: number, bit: number): void {
    this.#own();
    const index = Math.floor(at / BLOCK_BYTES);
    const flip = ({ value, change, older }: Version<Block>): Version<Block> => {
      const rotten = (value ?? ZERO_BLOCK).slice();
      rotten[at % BLOCK_BYTES]! ^= 1 << bit;
      return { value: rotten, change, ...(older && { older: flip(older) }) };
    };
    const flipped = flip(this.#blocks.get(index) ?? certain(undefined));
    this.#account(this.#live(index), flipped.value);
    this.#blocks.set(index, flipped);
  }

  #live(index: number): Block {
    return this.#blocks.get(index)?.value;
  }

  #put(index: number, value: Block, change: number): void {
    this.#own();
    const older = this.#blocks.get(index) ?? certain<Block>(undefined);
    if (value && !older.value) this.#room.check();
    this.#account(older.value, value);
    this.#blocks.set(index, { value, change, older });
    this.#unsynced.add(index);
  }

  #settle(index: number, value: Block): void {
    this.#account(this.#live(index), value);
    if (value) this.#blocks.set(index, certain<Block>(value));
    else this.#blocks.delete(index);
  }

  #account(before: Block, after: Block): void {
    const more = (after ? 1 : 0) - (before ? 1 : 0);
    this.#allocated += more;
    this.#room.usedBlocks += more;
  }

  /** Indexes of blocks that were ever written, of a range of bytes. */
  #held(at: number, end: number): number[] {
    const first = Math.floor(at / BLOCK_BYTES);
    const after = Math.ceil(end / BLOCK_BYTES);
    if (after - first > this.#blocks.size) {
      const inside = (index: number) => index >= first && index < after;
      return [...this.#blocks.keys()].filter(inside).toSorted((a, b) => a - b);
    }
    return Array.from({ length: after - first }, (_, step) => first + step);
  }

  #patched(index: number, start: number, from: Uint8Array): Uint8Array {
    const block = (this.#live(index) ?? ZERO_BLOCK).slice();
    block.set(from, start);
    return block;
  }

  #grow(end: number, change: number): void {
    if (end > this.sizeBytes) this.#setSize(end, change);
  }
  #setSize(sizeBytes: number, change: number): void {
    this.#size = { value: sizeBytes, change, older: this.#size };
  }

  #own(): void {
    if (!this.#shared) return;
    this.#blocks = new Map(this.#blocks);
    this.#unsynced = new Set(this.#unsynced);
    this.#shared = false;
  }
}

const always = () => true;

/** A run of bytes, cut at the borders of blocks. */
function* pieces(at: number, length: number) {
  for (let done = 0; done < length; ) {
    const index = Math.floor((at + done) / BLOCK_BYTES);
    const start = at + done - index * BLOCK_BYTES;
    const piece = Math.min(BLOCK_BYTES - start, length - done);
    yield { index, start, length: piece, done };
    done += piece;
  }
}
