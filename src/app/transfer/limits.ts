import { assert } from '../../base/assert.ts';
import { BLOCK_BYTES, GiB, KiB, MiB } from '../../base/units.ts';

/** How much of a disk is on its way at once; all memory of a transfer follows from these. */
export const TRANSFER_LIMITS = {
  /** One read, and the most one write or record carries. */
  pieceBytes: 512 * KiB,
  /** Pieces that are being read, or are read and wait for their turn … */
  readAhead: 16,
  /** … and pieces that are being written. */
  writeBehind: 16,
  /** To an export, where the server allows it: the socket of one is full while others go on. */
  connections: 4,
  /** How far one request looks for data and holes, and what one request zeroes. */
  extentBytes: GiB,
  zeroBytes: 64 * MiB,
  extentsMax: 8192,
  /** What is looked at to tell what a file begins and ends with. */
  headBytes: 4 * KiB,
} as const;

assert(TRANSFER_LIMITS.pieceBytes % BLOCK_BYTES === 0, 'a piece is whole blocks');
assert(TRANSFER_LIMITS.zeroBytes < 4 * GiB, 'a length on the wire has 32 bits');
assert(TRANSFER_LIMITS.extentBytes < 4 * GiB, 'a length on the wire has 32 bits');
assert(TRANSFER_LIMITS.headBytes <= TRANSFER_LIMITS.pieceBytes, 'the head is of the first piece');
