/** One object's share of a range of the disk. */
export interface Piece {
  readonly index: number;
  /** Byte inside the object. */
  readonly at: number;
  readonly length: number;
  /** Byte inside the range. */
  readonly offset: number;
}

/** Cuts `at` to `at + length` of the disk at the borders of objects. */
export function* pieces(at: number, length: number, objectBytes: number): Generator<Piece> {
  for (let offset = 0; offset < length; ) {
    const position = at + offset;
    const index = Math.floor(position / objectBytes);
    const inObject = position - index * objectBytes;
    const piece = Math.min(length - offset, objectBytes - inObject);
    yield { index, at: inObject, length: piece, offset };
    offset += piece;
  }
}

/** How many objects a disk of this size has. */
export function objectCount(sizeBytes: number, objectBytes: number): number {
  return Math.ceil(sizeBytes / objectBytes);
}
