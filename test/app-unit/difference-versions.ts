import { crc32 } from 'node:zlib';
import {
  type DifferenceHeader,
  encodeDifferenceHeader,
} from '../../src/app/transfer/difference-stream.ts';

/** The header as a program of another version would write it: sound, and of that version. */
export function encodeWithVersion(header: DifferenceHeader, version: number): Uint8Array {
  const bytes = encodeDifferenceHeader(header);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(8, version);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)));
  return bytes;
}
