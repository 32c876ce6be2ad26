import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';

/** The volume as one connection has it: disposing ends that use, not the volume. */
export function lent(
  volume: BlockDevice,
  info: DeviceInfo,
  release: () => Promise<void>,
): BlockDevice {
  let released: Promise<void> | undefined;
  return {
    info,
    read: (at, into, call) => volume.read(at, into, call),
    write: (at, from, call) => volume.write(at, from, call),
    flush: (call) => volume.flush(call),
    trim: (at, length, call) => volume.trim(at, length, call),
    writeZeroes: (at, length, call) => volume.writeZeroes(at, length, call),
    extents: (at, length, countMax, call) => volume.extents(at, length, countMax, call),
    ...(volume.describe && { describe: volume.describe.bind(volume) }),
    zeroNow: (at, length) => volume.zeroNow?.(at, length) === true,
    prefetch: (at, length, call) => volume.prefetch(at, length, call),
    [Symbol.asyncDispose]: () => {
      released ??= release();
      return released;
    },
  };
}
