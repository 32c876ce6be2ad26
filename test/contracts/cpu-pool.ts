import { describe, expect, test } from 'vitest';
import {
  type CodecName,
  contentWork,
  type HashName,
  NAME_BYTES,
  type StoredPiece,
} from '../../src/base/content.ts';
import type { CpuPool } from '../../src/contracts/cpu-pool.ts';
import { simRandom } from '../../src/sim/sim-random.ts';

const SLICE = 64 * 1024;
const CODECS: readonly CodecName[] = ['zstd', 'zlib', 'none'];
const HASHES: readonly HashName[] = ['sha256', 'sha1'];

/** Four slices: of text, of chance, of zeroes, and of one byte at its end. */
function slices(pool: CpuPool): Uint8Array {
  const bytes = pool.memory(4 * SLICE);
  const text = new TextEncoder().encode('the quick brown fox jumps over the lazy dog. ');
  for (let at = 0; at < SLICE; at += 1) bytes[at] = text[at % text.length]!;
  bytes.set(simRandom(1).bytes(SLICE), SLICE);
  bytes[4 * SLICE - 1] = 7;
  return bytes;
}

/** What any CpuPool must do. */
export function cpuPoolContract(name: string, fresh: () => CpuPool): void {
  describe(`${name} is a CpuPool`, () => {
    test.for(HASHES)('names slices by %s, and one of zeroes with zeroes', async (hash) => {
      await using pool = fresh();
      const bytes = slices(pool);
      const job = { hash, type: 'data', sliceBytes: SLICE, bytes } as const;
      const names = await pool.name(job);
      expect(names).toEqual(contentWork.name(job));
      expect(names.subarray(2 * NAME_BYTES, 3 * NAME_BYTES)).toEqual(new Uint8Array(NAME_BYTES));
      expect(names.subarray(3 * NAME_BYTES).some((byte) => byte !== 0)).toBe(true);
    });

    test.for(CODECS)('what %s made shorter is proven and comes back', async (codec) => {
      await using pool = fresh();
      const bytes = slices(pool);
      const before = bytes.slice();
      const names = await pool.name({ hash: 'sha256', type: 'data', sliceBytes: SLICE, bytes });
      const which = [0, 1, 3];
      const forms = await pool.compress({ codec, level: 3, sliceBytes: SLICE, bytes, which });
      expect(forms.map((form) => form.codec)).toEqual([codec, 'none', codec]);
      expect(forms[1]?.length).toBe(SLICE);
      if (codec !== 'none') expect(forms[0]?.length).toBeLessThan(SLICE / 50);
      // Those that were not asked for are as they were.
      expect(bytes.subarray(2 * SLICE, 3 * SLICE)).toEqual(before.subarray(2 * SLICE, 3 * SLICE));

      const pieces = forms.map((form, place): StoredPiece => {
        const at = which[place]! * SLICE;
        return { ...form, type: 'data', at, rawBytes: SLICE, to: at };
      });
      const into = pool.memory(4 * SLICE);
      const wanted = Uint8Array.from(
        which.flatMap((index) => [...names.subarray(index * NAME_BYTES, (index + 1) * NAME_BYTES)]),
      );
      const job = { hash: 'sha256', stored: bytes, names: wanted, pieces, into } as const;
      expect(await pool.prove(job)).toEqual([undefined, undefined, undefined]);
      expect(Buffer.compare(into, before)).toBe(0);
    });

    test('what is not what it says is told, piece by piece', async () => {
      await using pool = fresh();
      const bytes = slices(pool);
      const names = await pool.name({ hash: 'sha256', type: 'data', sliceBytes: SLICE, bytes });
      const [form] = await pool.compress({
        ...{ codec: 'zstd', level: 3, sliceBytes: SLICE },
        ...{ bytes, which: [0] },
      });
      const piece = { ...form!, type: 'data', at: 0, rawBytes: SLICE, to: 0 } as const;
      const into = pool.memory(SLICE);
      const pieces = [
        { ...piece, crc: (piece.crc + 1) >>> 0 },
        { ...piece, rawBytes: SLICE - 1 },
        { ...piece, rawBytes: SLICE + 1 },
        { ...piece, codec: 'zlib' as const },
        { ...piece, type: 'trunk' as const },
      ];
      const many = new Uint8Array(pieces.length * NAME_BYTES);
      for (const index of pieces.keys())
        many.set(names.subarray(0, NAME_BYTES), index * NAME_BYTES);
      const job = { hash: 'sha256', stored: bytes, names: many, pieces, into } as const;
      expect(await pool.prove(job)).toEqual([
        'its stored bytes do not fit their checksum',
        'it cannot be decompressed',
        'it cannot be decompressed',
        'it cannot be decompressed',
        'its content does not fit its name',
      ]);
      expect(into.every((byte) => byte === 0)).toBe(true);
    });

    test('a job that breaks a belief fails alone, with the sentence', async () => {
      await using pool = fresh();
      const bytes = pool.memory(10).fill(1);
      const bad = pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4, bytes });
      const good = pool.name({ hash: 'sha256', type: 'data', sliceBytes: 5, bytes });
      await expect(bad).rejects.toThrow('whole slices are named');
      expect(await good).toHaveLength(64);
    });

    test('does many jobs, each once', async () => {
      await using pool = fresh();
      const names = await Promise.all(
        Array.from({ length: 40 }, async (_, number) => {
          const bytes = pool.memory(4096).fill(number);
          return pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4096, bytes });
        }),
      );
      expect(new Set(names.map((each) => Buffer.from(each).toString('hex'))).size).toBe(40);
    });

    test('takes no job once it is disposed', async () => {
      const pool = fresh();
      const bytes = pool.memory(4096).fill(1);
      const job = { hash: 'sha256', type: 'data', sliceBytes: 4096, bytes } as const;
      await pool.name(job);
      const cut = pool.compress({ ...job, codec: 'zstd', level: 3, which: [0] });
      const [, result] = await Promise.allSettled([pool[Symbol.asyncDispose](), cut]);
      // What was under way ended one way or the other, and did not hang.
      expect(['fulfilled', 'rejected']).toContain(result.status);
      await expect(pool.name(job)).rejects.toMatchObject({ code: 'ERR_SHUTDOWN' });
    });
  });
}
