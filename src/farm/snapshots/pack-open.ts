import { crc32 } from 'node:zlib';
import { isFault } from '../../base/errors.ts';
import { MiB } from '../../base/units.ts';
import type { DiskFile } from '../../contracts/disk.ts';
import {
  damaged,
  decodeIndex,
  decodeObjectHeader,
  decodePackHeader,
  decodeTrailer,
  INDEX_ENTRY_BYTES,
  type IndexEntries,
  type IndexEntry,
  OBJECT_HEADER_BYTES,
  PACK_HEADER_BYTES,
  type PackHeader,
  TRAILER_BYTES,
} from './pack-format.ts';

export interface OpenedPack extends PackHeader {
  readonly entries: IndexEntries;
  readonly fileBytes: number;
  /** Why its index could not be used: the entries were found object by object. */
  readonly flaw?: string;
}

/**
 * What a pack holds, by its trailer and index; of one that is cut off or damaged, whatever objects
 * can still be found in it.
 * @throws SheepError `ERR_VERSION`, `ERR_IO`; `ERR_CORRUPT` if not even its header can be read
 */
export async function openPack(file: DiskFile, path: string): Promise<OpenedPack> {
  const fileBytes = await file.size();
  try {
    return await byIndex(file, fileBytes, path);
  } catch (error) {
    if (!isFault(error, 'ERR_CORRUPT')) throw error;
    const header = decodePackHeader(await readAt(file, 0, PACK_HEADER_BYTES), path);
    const entries = await scan(file, fileBytes);
    return { ...header, entries, fileBytes, flaw: error.message };
  }
}

async function byIndex(file: DiskFile, fileBytes: number, path: string): Promise<OpenedPack> {
  if (fileBytes < PACK_HEADER_BYTES + TRAILER_BYTES) throw damaged(path, 'it is cut off');
  const trailerAt = fileBytes - TRAILER_BYTES;
  const trailer = decodeTrailer(await readAt(file, trailerAt, TRAILER_BYTES), fileBytes, path);
  const index = await readAt(file, trailer.indexAt, trailer.count * INDEX_ENTRY_BYTES);
  const entries = decodeIndex(index, trailer, path);
  const { kind, storeId, createdMs } = trailer;
  return { kind, storeId, createdMs, entries, fileBytes };
}

/** Objects whose header is sound and whose stored bytes fit it, wherever they begin. */
async function scan(file: DiskFile, fileBytes: number): Promise<IndexEntry[]> {
  const found: IndexEntry[] = [];
  let at = PACK_HEADER_BYTES;
  while (at + OBJECT_HEADER_BYTES <= fileBytes) {
    const entry = await objectAt(file, at, fileBytes);
    if (entry !== undefined) {
      found.push(entry);
      at += OBJECT_HEADER_BYTES + entry.storedBytes;
    } else {
      at = await nextCandidate(file, at + 1, fileBytes);
    }
  }
  return found;
}

async function objectAt(
  file: DiskFile,
  at: number,
  fileBytes: number,
): Promise<IndexEntry | undefined> {
  const header = decodeObjectHeader(await readAt(file, at, OBJECT_HEADER_BYTES));
  if (header === undefined) return undefined;
  const { type, name, rawBytes, storedBytes } = header;
  if (at + OBJECT_HEADER_BYTES + storedBytes > fileBytes) return undefined;
  const stored = await readAt(file, at + OBJECT_HEADER_BYTES, storedBytes);
  if (crc32(stored) !== header.crc) return undefined;
  return { type, name: name.slice(), offset: at, rawBytes, storedBytes };
}

/** Where the first byte of an object's magic stands next. */
async function nextCandidate(file: DiskFile, from: number, fileBytes: number): Promise<number> {
  for (let at = from; at < fileBytes; at += MiB) {
    const bytes = await readAt(file, at, Math.min(MiB, fileBytes - at));
    const place = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf('SHPO');
    if (place >= 0) return at + place;
    at -= 3; // it may lie across the border
    if (fileBytes - at <= MiB) break;
  }
  return fileBytes;
}

async function readAt(file: DiskFile, at: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const got = await file.read(at, bytes);
  return bytes.subarray(0, got);
}
