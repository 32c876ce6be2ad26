import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { BLOCK_BYTES } from '../src/base/units.ts';
import { HOLE, ZERO_SUM } from '../src/farm/checksums.ts';
import {
  blocksOf,
  dataAtOf,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
} from '../src/farm/object-format.ts';

/**
 * Makes every object of a stopped store full without the space that would take: each block that was
 * never written gets the checksum of a block of zeroes, and the file its full length, sparse. So
 * tables are full and every read is verified, while the medium holds only what was written.
 * @returns how many objects there are
 */
export async function makeObjectsFull(store: string): Promise<number> {
  let count = 0;
  for (const folder of await readdir(join(store, 'obj'))) {
    const names = await readdir(join(store, 'obj', folder));
    await Promise.all(names.map((name) => makeFull(join(store, 'obj', folder, name))));
    count += names.length;
  }
  return count;
}

async function makeFull(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const first = new Uint8Array(HEADER_BYTES);
  await file.read(first, 0, HEADER_BYTES, 0);
  const header = decodeHeader(first);
  const { objectBytes } = header;
  const table = new Uint8Array(dataAtOf(objectBytes) - HEADER_BYTES);
  await file.read(table, 0, table.length, HEADER_BYTES);
  const entries = new Uint32Array(table.buffer, 0, blocksOf(objectBytes));
  for (const [block, entry] of entries.entries()) {
    if (entry === HOLE) entries[block] = ZERO_SUM;
  }
  const pageSums = header.pageSums.map((_, page) =>
    crc32(table.subarray(page * BLOCK_BYTES, (page + 1) * BLOCK_BYTES)),
  );
  await file.write(encodeHeader({ ...header, pageSums }), 0, HEADER_BYTES, 0);
  await file.write(table, 0, table.length, HEADER_BYTES);
  await file.truncate(dataAtOf(objectBytes) + objectBytes);
}
