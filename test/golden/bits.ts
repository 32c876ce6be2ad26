/** Every bit of the bytes that can be turned over without `accepts` refusing them. */
export function unnoticedFlips(
  bytes: Uint8Array,
  accepts: (flipped: Uint8Array<ArrayBuffer>) => boolean,
  length = bytes.length,
): string[] {
  const unnoticed: string[] = [];
  for (const { flipped, at, bit } of bitFlips(bytes, length)) {
    if (accepts(flipped)) unnoticed.push(`byte ${at}, bit ${bit}`);
  }
  return unnoticed;
}

/** The bytes with one bit turned over, for every bit of the first `length`. */
function* bitFlips(
  bytes: Uint8Array,
  length: number,
): Generator<{ flipped: Uint8Array<ArrayBuffer>; at: number; bit: number }> {
  const flipped = new Uint8Array(bytes);
  for (let at = 0; at < length; at += 1) {
    for (let bit = 0; bit < 8; bit += 1) {
      flipped[at] = (bytes[at] as number) ^ (1 << bit);
      yield { flipped, at, bit };
    }
    flipped[at] = bytes[at] as number;
  }
}
