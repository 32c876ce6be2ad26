import { SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DiskFile } from '../contracts/disk.ts';
import { blocksOf, decodeHeader, HEADER_BYTES, type ObjectHeader } from './object-format.ts';
import { giveTable, takeTable } from './tables.ts';

/** Header and table of most objects, in one read. */
const HEAD_BYTES = HEADER_BYTES + BLOCK_BYTES;
/** Objects are opened too often for garbage of this size. */
const heads: Uint8Array[] = [];
const HEADS_MAX = 16;

/** Lends `use` the beginning of the file, with zeroes behind its end. */
export async function withHead<T>(
  file: DiskFile,
  use: (head: Uint8Array, got: number) => T | Promise<T>,
): Promise<T> {
  const head = takeHead();
  let got = file.readNow(0, head);
  if (got < 0) got = await file.read(0, head);
  head.fill(0, got);
  const used = await use(head, got);
  giveHead(head);
  return used;
}

export function takeHead(): Uint8Array {
  return heads.pop() ?? new Uint8Array(HEAD_BYTES);
}
export function giveHead(head: Uint8Array): void {
  if (heads.length < HEADS_MAX) heads.push(head);
}

/** @throws SheepError `ERR_CORRUPT` that names the object, `ERR_VERSION` */
export function headerIn(head: Uint8Array, got: number, name: ObjectName): ObjectHeader {
  try {
    const header = decodeHeader(head.subarray(0, Math.min(got, HEADER_BYTES)));
    if (formatOid(header.name) !== formatOid(name)) {
      throw damaged(name, `its header names ${formatOid(header.name)}`);
    }
    return header;
  } catch (error) {
    if (error instanceof SheepError && error.code === 'ERR_CORRUPT') {
      throw damaged(name, error.message);
    }
    throw error;
  }
}

/** The table as it stands in the file. */
export async function tableBehind(
  head: Uint8Array,
  file: DiskFile,
  header: ObjectHeader,
): Promise<Uint32Array<ArrayBuffer>> {
  const cached = tableNow(head, file, header);
  if (cached !== undefined) return cached;
  const table = takeTable(blocksOf(header.objectBytes));
  await file.read(HEADER_BYTES, new Uint8Array(table.buffer));
  return table;
}

/** The same, or undefined if it would have to wait. */
export function tableNow(
  head: Uint8Array,
  file: DiskFile,
  header: ObjectHeader,
): Uint32Array<ArrayBuffer> | undefined {
  const table = takeTable(blocksOf(header.objectBytes));
  const bytes = new Uint8Array(table.buffer);
  if (bytes.length <= BLOCK_BYTES) bytes.set(head.subarray(HEADER_BYTES));
  else if (file.readNow(HEADER_BYTES, bytes) < 0) {
    giveTable(table);
    return undefined;
  }
  return table;
}

export function damaged(name: ObjectName, why: string): SheepError {
  const oid = formatOid(name);
  return new SheepError('ERR_CORRUPT', `object ${oid} is damaged: ${why}`, { oid });
}
