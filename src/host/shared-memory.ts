import { closeSync, ftruncateSync } from 'node:fs';
import koffi, { type KoffiFunc } from 'koffi';
import { assert } from '../base/assert.ts';
import { MiB } from '../base/units.ts';
import { allocateNow, FALLOCATE, fallocate, systemError } from './syscalls.ts';

/**
 * Memory that this process and those that it starts both see, and nothing else of each other: of a
 * memfd_create(2) that each of them maps.
 */

const libc = koffi.load(null);
const memfdCreate: (name: string, flags: number) => number = libc.func(
  'int memfd_create(const char *name, unsigned int flags)',
);
type Map = (at: null, length: number, may: number, how: number, fd: number, from: number) => bigint;
const mmap: Map = libc.func(
  'void *mmap(void *at, size_t length, int may, int how, int fd, int64_t from)',
);
const munmap: KoffiFunc<(at: bigint, length: number) => number> = libc.func(
  'int munmap(void *at, size_t length)',
);
const MFD_CLOEXEC = 1;
/** Hosts may allow no others; unknown before Linux 6.3. */
const MFD_NOEXEC_SEAL = 8;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

/** What it is called in lists of open files and mappings. */
const NAME = 'sheep-snapshots';
/** Of addresses; memory is only what is used of it. */
const MAPPED_BYTES = 1024 * MiB;
/** Pieces are of this or twice, four times, … as many bytes. */
const PIECE_BYTES_MIN = 4096;

/** Where bytes are, in whichever process: `at` of a piece that begins at `piece`. */
export interface SharedPlace {
  readonly piece: number;
  readonly pieceBytes: number;
  readonly at: number;
  readonly length: number;
}

/** The memory behind a descriptor that was inherited, by places in it. @throws Error with `code` */
export function mapPieces(fd: number): (place: SharedPlace) => Uint8Array {
  const base = map(fd);
  const pieces = new Map<number, ArrayBuffer>();
  return ({ piece, pieceBytes, at, length }) => {
    const bytes = pieces.get(piece) ?? koffi.view(base + BigInt(piece), pieceBytes);
    pieces.set(piece, bytes);
    return new Uint8Array(bytes, at, length);
  };
}

/** Gives it away in pieces. Those who are to see it inherit `fd`. */
export class SharedMemory implements AsyncDisposable {
  readonly fd: number;
  readonly #mapping: Mapping;
  /** Where each piece begins. */
  readonly #begins = new WeakMap<ArrayBufferLike, number>();
  /** What was given back, by its length. */
  readonly #free = new Map<number, ArrayBufferLike[]>();
  #end = 0;

  /** @throws Error with `code` */
  constructor() {
    this.fd = memfdCreate(NAME, MFD_CLOEXEC + MFD_NOEXEC_SEAL);
    if (this.fd < 0) this.fd = memfdCreate(NAME, MFD_CLOEXEC);
    if (this.fd < 0) throw systemError('memfd_create', koffi.errno());
    try {
      ftruncateSync(this.fd, MAPPED_BYTES);
      this.#mapping = { base: map(this.fd), pieces: 0, isOver: false };
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  /**
   * Whoever takes a piece has it alone until it is given back.
   * @throws Error with `code` ENOMEM or ENOSPC: later, its use would end the process
   */
  take(bytes: number): Uint8Array {
    assert(!this.#mapping.isOver, 'memory is taken before it is over');
    const length = 2 ** Math.ceil(Math.log2(Math.max(bytes, PIECE_BYTES_MIN)));
    const piece = this.#free.get(length)?.pop() ?? this.#carve(length);
    return new Uint8Array(piece, 0, bytes);
  }

  /** @param memory  as it was taken */
  giveBack({ buffer }: Uint8Array): void {
    assert(this.#begins.has(buffer), 'what is given back was taken here');
    const free = this.#free.get(buffer.byteLength) ?? [];
    assert(!free.includes(buffer), 'what is given back was taken');
    this.#free.set(buffer.byteLength, [...free, buffer]);
  }

  /** @param bytes  in a piece that was taken */
  placeOf({ buffer, byteOffset, length }: Uint8Array): SharedPlace {
    const piece = this.#begins.get(buffer);
    assert(piece !== undefined, 'the memory of a job is shared with whoever does it');
    return { piece, pieceBytes: buffer.byteLength, at: byteOffset, length };
  }

  /** The memory is free; addresses stay, and show zeroes, as long as anybody here has a piece. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#mapping.isOver) return;
    this.#free.clear();
    this.#mapping.isOver = true;
    unmapUnused(this.#mapping);
    try {
      await fallocate(this.fd, FALLOCATE.punchHole + FALLOCATE.keepSize, 0, MAPPED_BYTES);
    } finally {
      closeSync(this.fd);
    }
  }

  #carve(length: number): ArrayBuffer {
    const at = this.#end;
    assert(at + length <= MAPPED_BYTES, 'what was taken is given back');
    allocateNow(this.fd, at, length);
    this.#end += length;
    const piece = koffi.view(this.#mapping.base + BigInt(at), length);
    this.#begins.set(piece, at);
    this.#mapping.pieces += 1;
    seen.register(piece, this.#mapping);
    return piece;
  }
}

/** Of a process, and how many of its pieces are still seen. */
interface Mapping {
  readonly base: bigint;
  pieces: number;
  /** There will be no more of them. */
  isOver: boolean;
}

const seen = new FinalizationRegistry<Mapping>((mapping) => {
  mapping.pieces -= 1;
  unmapUnused(mapping);
});

function unmapUnused({ base, pieces, isOver }: Mapping): void {
  if (isOver && pieces === 0) munmap(base, MAPPED_BYTES);
}

function map(fd: number): bigint {
  const base = mmap(null, MAPPED_BYTES, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (base === MAP_FAILED) throw systemError('mmap', koffi.errno());
  return base;
}
