import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { copyPieces } from '../../src/app/transfer/copy.ts';
import { deviceSink, deviceSource, type ImageSink } from '../../src/app/transfer/ends.ts';
import { TRANSFER_LIMITS } from '../../src/app/transfer/limits.ts';
import { type Piece, readPieces, streamPieces } from '../../src/app/transfer/pieces.ts';
import { streamSink } from '../../src/app/transfer/stream-sink.ts';
import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import { MemoryDevice } from './memory-device.ts';

const B = BLOCK_BYTES;
const PIECE_BLOCKS = TRANSFER_LIMITS.pieceBytes / B;
const untold = () => undefined;

/** Which blocks hold which byte; 0 is a hole. */
function deviceOf(blocks: readonly number[]): MemoryDevice {
  const device = new MemoryDevice(blocks.length * B);
  for (const [block, value] of blocks.entries())
    if (value > 0) device.fill(block, block + 1, value);
  return device;
}

/** The bytes in chunks of these lengths, again and again. */
async function* chunked(bytes: Uint8Array, lengths: readonly number[]) {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const length = lengths[turn % lengths.length] as number;
    yield bytes.slice(at, at + length);
    at += length;
  }
}

/** Disks with runs of a few values, around the size of a piece. */
const someBlocks = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 2 * PIECE_BLOCKS }), fc.integer({ min: 0, max: 3 })), {
    minLength: 1,
    maxLength: 6,
  })
  .map((runs) => runs.flatMap(([length, value]) => Array<number>(length).fill(value)));

describe('a copy', () => {
  test('has the bytes and the holes of its source, over whatever was there', async () => {
    await fc.assert(
      fc.asyncProperty(someBlocks, fc.boolean(), async (blocks, fresh) => {
        const source = deviceOf(blocks);
        const target = new MemoryDevice(source.info.sizeBytes);
        if (!fresh) target.fill(0, blocks.length, 9);
        const told: number[] = [];
        const copied = await copyPieces(
          readPieces(deviceSource(source)),
          deviceSink(target, fresh),
          (bytes) => told.push(bytes),
        );
        expect(Buffer.compare(target.bytes, source.bytes)).toBe(0);
        expect(target.written).toEqual(source.written);
        const dataBytes = blocks.filter((value) => value > 0).length * B;
        expect(copied).toEqual({ bytes: blocks.length * B, dataBytes });
        expect(told.at(-1)).toBe(blocks.length * B);
        expect(told).toEqual(told.toSorted((a, b) => a - b));
        if (fresh) expect(target.asked.filter(({ name }) => name === 'writeZeroes')).toEqual([]);
      }),
      { numRuns: 30 },
    );
  });

  test('finds the zeroes in what a source takes for data, block by block', async () => {
    const source = new MemoryDevice(64 * B).fill(0, 64, 1);
    source.bytes.fill(0, 8 * B, 9 * B);
    source.bytes.fill(0, 20 * B, 40 * B);
    source.bytes.fill(0, 63 * B + 1, 64 * B); // one byte of the last block is not zero
    const target = new MemoryDevice(64 * B);
    await copyPieces(readPieces(deviceSource(source)), deviceSink(target, true), untold);
    const holes = target.written.flatMap((written, block) => (written ? [] : [block]));
    expect(holes).toEqual([8, ...Array.from({ length: 20 }, (_, index) => 20 + index)]);
    expect(Buffer.compare(target.bytes, source.bytes)).toBe(0);
  });

  test('of a stream in chunks of any size is the same, to its last odd byte', async () => {
    await fc.assert(
      fc.asyncProperty(
        someBlocks,
        fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 0, max: B - 1 }),
        async (blocks, lengths, missing) => {
          const source = deviceOf(blocks);
          const bytes = source.bytes.subarray(0, source.bytes.length - missing);
          const target = new MemoryDevice(source.info.sizeBytes);
          const pieces = streamPieces(
            chunked(
              bytes,
              lengths.map((length) => length + 1000),
            ),
          );
          const copied = await copyPieces(pieces, deviceSink(target, true), untold);
          expect(copied.bytes).toBe(bytes.length);
          expect(Buffer.compare(target.bytes.subarray(0, bytes.length), bytes)).toBe(0);
          if (missing === 0) expect(target.written).toEqual(source.written);
        },
      ),
      { numRuns: 20 },
    );
  });

  test('into a stream has every byte in order, holes as zeroes', async () => {
    const source = deviceOf([...Array(3 * PIECE_BLOCKS).fill(1), ...Array(300).fill(0), 5, 0]);
    const parts: Uint8Array[] = [];
    const slow = async (bytes: Uint8Array) => {
      await new Promise(setImmediate);
      parts.push(bytes.slice());
    };
    await copyPieces(readPieces(deviceSource(source)), streamSink(slow), untold);
    expect(Buffer.compare(Buffer.concat(parts), source.bytes)).toBe(0);
  });

  test('has many requests under way at once, and no more than its memory holds', async () => {
    // Each piece differs, so memory that is used again too early is seen.
    const blocks = Array.from(
      { length: 100 * PIECE_BLOCKS },
      (_, b) => 1 + Math.floor(b / PIECE_BLOCKS),
    );
    const source = deviceOf(blocks);
    const target = new MemoryDevice(source.info.sizeBytes);
    source.before = () => new Promise<void>((done) => void setTimeout(done, 1));
    target.before = () => new Promise<void>((done) => void setTimeout(done, 5));
    await copyPieces(readPieces(deviceSource(source)), deviceSink(target, true), untold);
    expect(Buffer.compare(target.bytes, source.bytes)).toBe(0);
    for (const { atOnceMax } of [source, target]) {
      expect(atOnceMax).toBeGreaterThan(4);
      expect(atOnceMax).toBeLessThanOrEqual(TRANSFER_LIMITS.readAhead);
    }
    expect(source.asked.map(({ length }) => length)).toEqual(
      Array(100).fill(TRANSFER_LIMITS.pieceBytes),
    );
  });
});

describe('a copy that fails', () => {
  const full = new SheepError('ERR_NO_SPACE', 'full');
  const failingSink = (failAt: number): ImageSink => ({
    write: (at) => {
      if (at >= failAt) throw full;
    },
    zero: () => undefined,
  });

  test('says why, after what was being written has ended, and reads no further', async () => {
    const source = deviceOf(Array(100 * PIECE_BLOCKS).fill(1));
    const target = new MemoryDevice(source.info.sizeBytes);
    let ended = 0;
    target.before = async ({ at }) => {
      await new Promise(setImmediate);
      ended += 1;
      if (at === 20 * TRANSFER_LIMITS.pieceBytes) throw full;
    };
    const copy = copyPieces(readPieces(deviceSource(source)), deviceSink(target, true), untold);
    await expect(copy).rejects.toBe(full);
    expect(ended).toBe(target.asked.length);
    expect(source.asked.length).toBeLessThan(80);
  });

  test('does not wait for a source that has fallen silent', async () => {
    const hanging = async function* (): AsyncGenerator<Piece> {
      yield { at: 0, length: B, bytes: new Uint8Array(B).fill(1) };
      await new Promise(() => undefined);
    };
    await expect(copyPieces(hanging(), failingSink(0), untold)).rejects.toBe(full);
  });

  test.for(['source', 'target'] as const)('passes on what the %s refuses', async (side) => {
    const source = deviceOf([...Array(PIECE_BLOCKS).fill(1), ...Array(PIECE_BLOCKS).fill(2)]);
    const target = new MemoryDevice(source.info.sizeBytes);
    (side === 'source' ? source : target).before = ({ at }) => {
      if (at > 0) throw full;
    };
    const copy = copyPieces(readPieces(deviceSource(source)), deviceSink(target, true), untold);
    await expect(copy).rejects.toBe(full);
  });

  test('by an abort ends with its reason, also while it waits for its source', async () => {
    const stopped = new Error('stopped');
    const aborted = new AbortController();
    const waiting = async function* (): AsyncGenerator<Piece> {
      yield { at: 0, length: B };
      aborted.abort(stopped);
      await new Promise(() => undefined);
    };
    const { signal } = aborted;
    await expect(copyPieces(waiting(), failingSink(0), untold, { signal })).rejects.toBe(stopped);
    const source = deviceOf(Array(PIECE_BLOCKS).fill(1));
    const sink = deviceSink(new MemoryDevice(source.info.sizeBytes), true);
    const again = copyPieces(readPieces(deviceSource(source), { signal }), sink, untold, {
      signal,
    });
    await expect(again).rejects.toBe(stopped);
    expect(source.asked).toEqual([]);
  });

  test('a stream that fails in its middle is not taken for one that has ended', async () => {
    const broken = new SheepError('ERR_IO', 'the pipe broke');
    const chunks = async function* () {
      yield new Uint8Array(MiB).fill(1);
      throw broken;
    };
    const sink = deviceSink(new MemoryDevice(4 * MiB), true);
    await expect(copyPieces(streamPieces(chunks()), sink, untold)).rejects.toBe(broken);
  });
});
