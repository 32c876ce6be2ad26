import { SheepError } from '../../base/errors.ts';
import { parseVdiSize } from '../../vdi/names.ts';
import { quoted } from './image-formats.ts';
import type { Piece } from './pieces.ts';

/** What is to become a disk, as far as it is known before it is read. */
export interface ToImport {
  /** As it was named. */
  readonly path: string;
  /** Undefined of a stream. */
  readonly fileBytes: number | undefined;
  /** What the disk is to have, as it was given. */
  readonly size: string | undefined;
}

/** The size of a disk that is made for an import. @throws SheepError `ERR_BAD_INPUT` */
export function newDiskBytes({ path, fileBytes, size }: ToImport, name: string): number {
  const sizeBytes = size === undefined ? fileBytes : parseVdiSize(size);
  if (sizeBytes === undefined) {
    throw new SheepError(
      'ERR_BAD_INPUT',
      `there is no VDI '${name}' yet, and how large ${path} is shows only at its end; ` +
        'give --size SIZE, or make the VDI first',
      { name },
    );
  }
  if (sizeBytes === 0) throw new SheepError('ERR_BAD_INPUT', `${path} is empty`, { path });
  if (fileBytes === undefined || fileBytes <= sizeBytes) return sizeBytes;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `${path} has ${fileBytes} bytes, more than --size ${size}; leave --size out, or give more`,
    { fileBytes, sizeBytes },
  );
}

/** Refuses what does not fit a disk that is there. @throws SheepError `ERR_BAD_INPUT` */
export function checkFits({ path, fileBytes, size }: ToImport, name: string, diskBytes: number) {
  const larger = (to: number | string) => `collie vdi resize ${quoted(name)} ${to}`;
  if (size !== undefined) {
    throw new SheepError(
      'ERR_BAD_INPUT',
      `--size is for a VDI that import makes, and '${name}' exists; to change it: ${larger(size)}`,
      { name },
    );
  }
  if (fileBytes === 0) throw new SheepError('ERR_BAD_INPUT', `${path} is empty`, { path });
  if (fileBytes === undefined || fileBytes <= diskBytes) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `${path} has ${fileBytes} bytes, and '${name}' only ${diskBytes}; ` +
      `to make it larger: ${larger(fileBytes)}`,
    { fileBytes, diskBytes },
  );
}

/**
 * The pieces of a source as a disk of `sizeBytes`: what is missing at its end is zero, and zeroes
 * that follow each other are one piece, because whole objects of them cost nothing.
 * @throws SheepError `ERR_BAD_INPUT` when there is more, and has passed on nothing of it
 */
export async function* fitting(
  pieces: AsyncIterable<Piece>,
  sizeBytes: number,
): AsyncGenerator<Piece> {
  let end = 0;
  let zeroFrom = 0;
  for await (const piece of pieces) {
    end = piece.at + piece.length;
    if (end > sizeBytes) {
      const message = `there is more to import than the ${sizeBytes} bytes that the disk has`;
      throw new SheepError('ERR_BAD_INPUT', message, { sizeBytes });
    }
    if (piece.bytes === undefined) continue;
    if (piece.at > zeroFrom) yield { at: zeroFrom, length: piece.at - zeroFrom };
    yield piece;
    zeroFrom = end;
  }
  if (sizeBytes > zeroFrom) yield { at: zeroFrom, length: sizeBytes - zeroFrom };
}

/** The first bytes of a stream, `length` of them unless it is shorter, and the whole of it again. */
export async function peek(
  chunks: AsyncIterable<Uint8Array>,
  length: number,
): Promise<{ readonly head: Uint8Array; readonly chunks: AsyncIterable<Uint8Array> }> {
  const source = chunks[Symbol.asyncIterator]();
  const taken: Uint8Array[] = [];
  let bytes = 0;
  while (bytes < length) {
    const next = await source.next();
    if (next.done === true) break;
    taken.push(next.value.slice()); // a stream may lend its chunks
    bytes += next.value.length;
  }
  return {
    head: Buffer.concat(taken).subarray(0, length),
    chunks: (async function* () {
      yield* taken;
      for (let next = await source.next(); next.done !== true; next = await source.next()) {
        yield next.value;
      }
    })(),
  };
}
