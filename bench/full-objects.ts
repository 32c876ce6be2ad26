import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { KIND } from '../src/base/ids.ts';
import { BLOCK_BYTES } from '../src/base/units.ts';
import { HOLE, ZERO_SUM } from '../src/farm/checksums.ts';
import {
  blocksOf,
  dataAtOf,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
} from '../src/farm/object-format.ts';

/** Far from the values that are no sums. */
const NO_SUM = 0x4000_0000;

/**
 * Makes every object of a stopped store full without the space that would take: its file gets its full
 * length, sparse. Of the blocks of data that were never written, one in `readEvery` gets the checksum of
 * zeroes: it can be read, and is verified. The others get sums that nothing fits, each another one,
 * because a table of few values is folded up in memory. So the medium holds only what was written.
 * @returns how many objects there are
 */
export async function makeObjectsFull(store: string, readEvery: number): Promise<number> {
  let count = 0;
  for (const folder of await readdir(join(store, 'obj'))) {
    const names = await readdir(join(store, 'obj', folder));
    await Promise.all(names.map((name) => makeFull(join(store, 'obj', folder, name), readEvery)));
    count += names.length;
  }
  return count;
}

async function makeFull(path: string, readEvery: number): Promise<void> {
  await using file = await open(path, 'r+');
  const first = new Uint8Array(HEADER_BYTES);
  await file.read(first, 0, HEADER_BYTES, 0);
  const header = decodeHeader(first);
  const { objectBytes } = header;
  const table = new Uint8Array(dataAtOf(objectBytes) - HEADER_BYTES);
  await file.read(table, 0, table.length, HEADER_BYTES);
  const entries = new Uint32Array(table.buffer, 0, blocksOf(objectBytes));
  const zeroEvery = header.name.kind === KIND.data ? readEvery : 1;
  for (const [block, entry] of entries.entries()) {
    if (entry === HOLE) entries[block] = block % zeroEvery === 0 ? ZERO_SUM : NO_SUM + block;
  }
  const pageSums = header.pageSums.map((_, page) =>
    crc32(table.subarray(page * BLOCK_BYTES, (page + 1) * BLOCK_BYTES)),
  );
  await file.write(encodeHeader({ ...header, pageSums }), 0, HEADER_BYTES, 0);
  await file.write(table, 0, table.length, HEADER_BYTES);
  await file.truncate(dataAtOf(objectBytes) + objectBytes);
}
