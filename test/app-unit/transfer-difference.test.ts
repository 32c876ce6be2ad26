import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { changedSince } from '../../src/app/transfer/changes.ts';
import { differenceStream } from '../../src/app/transfer/difference-export.ts';
import { applyDifference, checkDifference } from '../../src/app/transfer/difference-import.ts';
import { type Change, DifferenceReader } from '../../src/app/transfer/difference-reader.ts';
import {
  DIFFERENCE_HEADER_BYTES,
  type DifferenceHeader,
  decodeDifferenceHeader,
  encodeDifferenceHeader,
  RECORD_HEAD_BYTES,
} from '../../src/app/transfer/difference-stream.ts';
import { deviceSource } from '../../src/app/transfer/ends.ts';
import { isFault } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { unnoticedFlips } from '../golden/bits.ts';
import { golden } from '../golden/golden.ts';
import { MemoryDevice } from './memory-device.ts';

const B = BLOCK_BYTES;
const untold = () => undefined;

async function* once(bytes: Uint8Array, chunkBytes = bytes.length) {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}
const readerOf = (bytes: Uint8Array, chunkBytes?: number) =>
  new DifferenceReader(once(bytes, chunkBytes));

/** What `export --from TAG` would write for a device that has that snapshot. */
async function streamOf(now: MemoryDevice, base: MemoryDevice, tag = 'then'): Promise<Uint8Array> {
  const header: DifferenceHeader = {
    name: 'demo',
    baseTag: tag,
    tag: 'now',
    baseSizeBytes: base.info.sizeBytes,
    sizeBytes: now.info.sizeBytes,
  };
  const sides = { now: deviceSource(now), base: deviceSource(base) };
  const parts: Uint8Array[] = [];
  const changed = changedSince(now, tag);
  for await (const part of differenceStream({ header, ...sides, changed }, untold)) {
    parts.push(part.slice());
  }
  return Buffer.concat(parts);
}

async function changesOf(bytes: Uint8Array, chunkBytes?: number): Promise<Change[]> {
  const changes: Change[] = [];
  for await (const change of readerOf(bytes, chunkBytes).changes()) changes.push(change);
  return changes;
}

/** A disk whose blocks 1 to 3 hold data, then: one changed, one trimmed, one written anew. */
async function small() {
  const now = new MemoryDevice(8 * B).fill(1, 4, 7);
  const base = now.snapshot('then');
  now.fill(1, 2, 8).punch(2, 3).fill(6, 7, 9);
  return { now, base, stream: await streamOf(now, base) };
}

const copyOf = (device: MemoryDevice) =>
  new MemoryDevice(device.info.sizeBytes, device.bytes.slice());

describe('a difference stream', () => {
  test('holds what changed, and no other block', async () => {
    const { stream } = await small();
    const changes = await changesOf(stream);
    expect(changes.map(({ kind, at, length }) => [kind, at / B, length / B])).toEqual([
      ['data', 1, 1],
      ['zero', 2, 1],
      ['data', 6, 1],
    ]);
    expect(changes[0]?.bytes).toEqual(new Uint8Array(B).fill(8));
    const heads = 4 * RECORD_HEAD_BYTES;
    expect(stream.length).toBe(DIFFERENCE_HEADER_BYTES + heads + 2 * B);
  });

  test('leaves out what was written over with the same bytes', async () => {
    const now = new MemoryDevice(8 * B).fill(0, 8, 7);
    const base = now.snapshot('then');
    now.fill(2, 3, 7); // as a guest would
    const header = { name: 'a', baseTag: 'then', tag: '', baseSizeBytes: 8 * B, sizeBytes: 8 * B };
    const changed = (async function* () {
      yield { at: 0, length: 8 * B }; // all of it may have changed
    })();
    const sides = { now: deviceSource(now), base: deviceSource(base) };
    let bytes = 0;
    for await (const part of differenceStream({ header, ...sides, changed }, untold)) {
      bytes += part.length;
    }
    expect(bytes).toBe(DIFFERENCE_HEADER_BYTES + RECORD_HEAD_BYTES);
  });

  test('makes of any base exactly what it was made from, however it arrives', async () => {
    const value = fc.integer({ min: 0, max: 2 });
    const blocks = fc.array(value, { minLength: 1, maxLength: 400 });
    await fc.assert(
      fc.asyncProperty(
        blocks,
        blocks,
        fc.integer({ min: 1, max: 9000 }),
        fc.boolean(),
        async (was, is, chunkBytes, checked) => {
          const fillIn = (values: readonly number[], device: MemoryDevice) => {
            for (const [block, one] of values.entries()) {
              if (block * B >= device.info.sizeBytes) break;
              if (one === 0) device.punch(block, block + 1);
              else device.fill(block, block + 1, one);
            }
            return device;
          };
          const now = fillIn(was, new MemoryDevice(400 * B));
          const base = now.snapshot('then');
          fillIn(is, now);
          const stream = await streamOf(now, base);
          const target = copyOf(base);
          const { name } = await readerOf(stream, chunkBytes).header();
          expect(name).toBe('demo');
          if (checked) await checkDifference(readerOf(stream), target, untold);
          await applyDifference(readerOf(stream, chunkBytes), target, checked, untold);
          expect(Buffer.compare(target.bytes, now.bytes)).toBe(0);
          expect(target.asked.at(-1)?.name).toBe('flush');
        },
      ),
      { numRuns: 40 },
    );
  });

  test('of a disk that has grown holds its new end, and of one that has shrunk nothing behind it', async () => {
    const base = new MemoryDevice(8 * B).fill(0, 8, 3);
    const grown = new MemoryDevice(16 * B, Buffer.concat([base.bytes, new Uint8Array(8 * B)]));
    grown.fill(15, 16, 4);
    const shrunk = new MemoryDevice(4 * B, base.bytes.slice(0, 4 * B)).fill(3, 4, 5);
    for (const now of [grown, shrunk]) {
      const sides = { now: deviceSource(now), base: deviceSource(base) };
      const sizes = { baseSizeBytes: base.info.sizeBytes, sizeBytes: now.info.sizeBytes };
      const header = { name: 'a', baseTag: 'then', tag: '', ...sizes };
      const changed = (async function* () {
        yield { at: 0, length: now.info.sizeBytes };
      })();
      const parts: Uint8Array[] = [];
      for await (const part of differenceStream({ header, ...sides, changed }, untold)) {
        parts.push(part.slice());
      }
      const stream = Buffer.concat(parts);
      await checkDifference(readerOf(stream), base, untold);
      const target = new MemoryDevice(
        Math.max(now.info.sizeBytes, base.info.sizeBytes),
        now === grown ? Buffer.concat([base.bytes, new Uint8Array(8 * B)]) : base.bytes.slice(),
      );
      await applyDifference(readerOf(stream), target, false, untold);
      expect(target.bytes.subarray(0, now.bytes.length)).toEqual(now.bytes);
    }
  });
});

describe('a difference stream that is not whole', () => {
  test('is refused wherever it ends, and told as a stream that ends', async () => {
    const { stream, base } = await small();
    for (let length = 0; length < stream.length; length += 97) {
      const target = copyOf(base);
      const checking = checkDifference(readerOf(stream.subarray(0, length)), target, untold);
      await expect(checking).rejects.toThrow(/the difference stream is damaged: it ends/);
      expect(target.asked.filter(({ name }) => name !== 'read')).toEqual([]);
    }
    const longer = Buffer.concat([stream, Uint8Array.of(0)]);
    await expect(changesOf(longer)).rejects.toThrow(/something follows its end/);
  });

  test('is refused with any bit turned over', async () => {
    const { stream } = await small();
    const flips = stream.length * 8;
    for (let bit = 0; bit < flips; bit += 131) {
      const altered = stream.slice();
      altered[bit >> 3] = (altered[bit >> 3] as number) ^ (1 << (bit & 7));
      const decoding = changesOf(altered);
      await expect(decoding, `bit ${bit}`).rejects.toMatchObject({ name: 'SheepError' });
    }
  });

  test('is refused with two records in the other order, or one left out', async () => {
    const { stream } = await small();
    const first = stream.subarray(DIFFERENCE_HEADER_BYTES, DIFFERENCE_HEADER_BYTES + 40 + B);
    const [from, to] = [DIFFERENCE_HEADER_BYTES + first.length, stream.length];
    const head = stream.subarray(0, DIFFERENCE_HEADER_BYTES);
    const second = stream.subarray(from, from + 40);
    const swapped = Buffer.concat([head, second, first, stream.subarray(from + 40, to)]);
    const without = Buffer.concat([head, stream.subarray(from, to)]);
    for (const altered of [swapped, without]) {
      await expect(changesOf(altered)).rejects.toThrow(/does not belong there/);
    }
  });

  test('of another version is refused by name', async () => {
    const { stream } = await small();
    const header = await readerOf(stream).header();
    const { encodeWithVersion } = await import('./difference-versions.ts');
    const newer = encodeWithVersion(header, 2);
    expect(() => decodeDifferenceHeader(newer)).toThrow(
      /of version 2; this collie reads version 1/,
    );
  });

  test('any bytes are decoded or refused by name', async () => {
    const { stream } = await small();
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 4000 }),
        fc.integer({ min: 0, max: stream.length }),
        fc.integer({ min: 1, max: 5000 }),
        async (noise, at, chunkBytes) => {
          const bytes = Buffer.concat([stream.subarray(0, at), noise]);
          try {
            await changesOf(bytes, chunkBytes);
          } catch (error) {
            const named = ['ERR_CORRUPT', 'ERR_VERSION', 'ERR_BAD_FRAME'] as const;
            expect(
              named.some((code) => isFault(error, code)),
              String(error),
            ).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a disk that is not the base', () => {
  test('is refused before anything changes, with the place', async () => {
    const { stream, base } = await small();
    const other = copyOf(base).fill(6, 7, 1);
    const checking = checkDifference(readerOf(stream), other, untold);
    await expect(checking).rejects.toThrow(/at byte 24576 the disk is not what the difference was/);
    expect(other.asked.every(({ name }) => name === 'read')).toBe(true);
  });

  test('gets nothing of the record that shows it, where it could not be asked before', async () => {
    const { stream, base } = await small();
    const other = copyOf(base).fill(6, 7, 1);
    const applying = applyDifference(readerOf(stream), other, false, untold);
    await expect(applying).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
    expect(other.asked.filter(({ name, at }) => name === 'write' && at === 6 * B)).toEqual([]);
  });
});

describe('version 1 of the difference stream', () => {
  /** Two blocks with a byte each: one is written over, one trimmed; and a new one. */
  async function sparse() {
    const now = new MemoryDevice(4 * B);
    now.bytes[0] = 1;
    now.bytes[B] = 2;
    now.written.fill(true, 0, 2);
    const base = now.snapshot('then');
    now.bytes[16] = 3;
    now.punch(1, 2);
    now.bytes[4 * B - 1] = 4;
    now.written[3] = true;
    return { now, base, stream: await streamOf(now, base) };
  }

  test('is these bytes and no others', async () => {
    const { now, base, stream } = await sparse();
    const stored = golden('difference-stream-v1', stream);
    expect(Buffer.compare(stream, stored)).toBe(0);
    const target = copyOf(base);
    await applyDifference(readerOf(stored), target, false, untold);
    expect(target.bytes).toEqual(now.bytes);
  });

  test('has a header in which no bit goes unnoticed', async () => {
    const header = encodeDifferenceHeader({
      ...{ name: 'demo', baseTag: 'a', tag: '', baseSizeBytes: B, sizeBytes: 2 * B },
    });
    const accepts = (bytes: Uint8Array) => {
      try {
        decodeDifferenceHeader(bytes);
        return true;
      } catch {
        return false;
      }
    };
    expect(accepts(header)).toBe(true);
    expect(unnoticedFlips(header, accepts)).toEqual([]);
  });
});
