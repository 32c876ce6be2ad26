import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { NOT_SUPPORTED, readCached } from '../../src/host/syscalls.ts';

test('a read from the cache goes on behind what is there, and stays inside its buffer', async () => {
  const directory = await mkdtemp(`${tmpdir()}/sheep-syscalls-`);
  try {
    await using file = await open(`${directory}/a`, 'w+');
    await file.write(new Uint8Array(1000).fill(7));
    const memory = new Uint8Array(120);
    const got = readCached(file.fd, 0, memory.subarray(10, 110), 30);
    const length = got === NOT_SUPPORTED ? 0 : 70;
    expect([length, NOT_SUPPORTED]).toContain(got);
    expect(memory).toEqual(new Uint8Array(120).fill(7, 40, 40 + length));
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a call that fails says which and why', () => {
  const refused = expect.objectContaining({ code: 'EBADF', syscall: 'preadv2', errno: -9 });
  expect(() => readCached(-1, 0, new Uint8Array(10), 0)).toThrow(refused);
});
