import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { mapPieces, SharedMemory } from '../../src/host/shared-memory.ts';

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

const mappings = () => readFileSync('/proc/self/maps', 'utf8').match(/memfd:sheep/g)?.length ?? 0;
/** What of them is in memory. */
const sharedMiB = () =>
  Number(/^RssShmem:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;

describe.skipIf(process.platform !== 'linux')('shared memory', () => {
  test('who finds bytes by their place sees the same, both ways', async () => {
    await using memory = new SharedMemory();
    const other = mapPieces(memory.fd);
    memory.take(100_000);
    const part = memory.take(9000).fill(1).subarray(4000, 8000);
    const seen = other(memory.placeOf(part));
    expect(seen).toHaveLength(4000);
    expect(seen.every((byte) => byte === 1)).toBe(true);
    seen[7] = 2;
    expect(part[7]).toBe(2);
  });

  test('a piece belongs to one at a time, and is used again once it is given back', async () => {
    await using memory = new SharedMemory();
    const first = memory.take(5000);
    const second = memory.take(5000);
    expect(memory.placeOf(second).piece).toBeGreaterThanOrEqual(8192);
    memory.giveBack(first);
    expect(() => memory.giveBack(first)).toThrow('was taken');
    expect(memory.placeOf(memory.take(6000)).piece).toBe(0);
    for (let times = 0; times < 2000; times += 1) memory.giveBack(memory.take(MiB));
  });

  test('only what was taken can be given back, or be sent', async () => {
    await using memory = new SharedMemory();
    expect(() => memory.giveBack(new Uint8Array(10))).toThrow('was taken here');
    expect(() => memory.placeOf(new Uint8Array(10))).toThrow('is shared');
  });

  test('it is free once it is over, and who still has a piece of it reads zeroes', async () => {
    const piece = await (async () => {
      await using memory = new SharedMemory();
      const bytes = memory.take(64 * MiB).fill(1);
      expect(sharedMiB()).toBeGreaterThan(60);
      return bytes;
    })();
    expect(sharedMiB()).toBeLessThan(10);
    // Twice is once.
    const over = new SharedMemory();
    await over[Symbol.asyncDispose]();
    await over[Symbol.asyncDispose]();
    expect(() => over.take(1)).toThrow('before it is over');
    expect(piece[5 * MiB]).toBe(0);
    piece[5 * MiB] = 1; // it is nobody else's
  });

  test('its addresses are free when nobody has a piece any more', async () => {
    collect();
    await setImmediate();
    const before = mappings();
    await (async () => {
      await using memory = new SharedMemory();
      memory.take(MiB).fill(1);
      memory.giveBack(memory.take(2 * MiB));
    })();
    for (let turns = 0; turns < 50 && mappings() > before; turns += 1) {
      collect();
      await setImmediate();
    }
    expect(mappings()).toBe(before);
  });
});
