import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { NOT_SUPPORTED, readCached } from '../../src/host/syscalls.ts';

/** The compiler is told nothing of the web. */
declare const WebAssembly: {
  readonly Memory: new (pages: {
    initial: number;
    maximum: number;
  }) => { readonly buffer: ArrayBuffer; grow(pages: number): number };
};

/** A thousand sevens, in the page cache. */
async function sevens(story: (file: FileHandle) => void): Promise<void> {
  const directory = await mkdtemp(`${tmpdir()}/sheep-syscalls-`);
  try {
    await using file = await open(`${directory}/a`, 'w+');
    await file.write(new Uint8Array(1000).fill(7));
    story(file);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Reads 70 bytes to byte 40 of `memory`: behind 30 others of a buffer that begins at byte 10. */
function expectSeventy(file: FileHandle, memory: Uint8Array): void {
  const got = readCached(file.fd, 0, memory.subarray(10, 110), 30);
  const length = got === NOT_SUPPORTED ? 0 : 70;
  expect([length, NOT_SUPPORTED]).toContain(got);
  expect(memory).toEqual(new Uint8Array(120).fill(7, 40, 40 + length));
}

test('a read from the cache goes on behind what is there, and stays inside its buffer', () =>
  sevens((file) => expectSeventy(file, new Uint8Array(120))));

test('memory of WebAssembly may be read into, also after it grew', () =>
  sevens((file) => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1000 });
    for (const pages of [0, 1, 900]) {
      memory.grow(pages);
      expectSeventy(file, new Uint8Array(memory.buffer, 256, 120).fill(0));
    }
  }));

test('a call that fails says which and why', () => {
  const refused = expect.objectContaining({ code: 'EBADF', syscall: 'preadv2', errno: -9 });
  expect(() => readCached(-1, 0, new Uint8Array(10), 0)).toThrow(refused);
});
