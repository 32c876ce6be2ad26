export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;
export const PiB = 1024 * TiB;

/** The unit of atomicity and of checksums: an aligned block is entirely old or entirely new. */
export const BLOCK_BYTES = 4 * KiB;

/** `value` up to the next multiple of `unit`; both below 2^53. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** `value` down to a multiple of `unit`. */
export function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}
