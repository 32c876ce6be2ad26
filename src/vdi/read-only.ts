import { SheepError } from '../base/errors.ts';
import type { BlockDevice } from '../contracts/block-device.ts';

/** A device as it was frozen: reading goes on, every change is refused. Closing it changes nothing. */
export function readOnly(inner: BlockDevice): BlockDevice {
  const refuse = () => {
    const what = inner.info.description;
    throw new SheepError(
      'ERR_READ_ONLY',
      `the ${what} cannot be written; clone it, and write there`,
    );
  };
  return {
    info: inner.info,
    read: (at, into, call) => inner.read(at, into, call),
    write: refuse,
    flush: () => undefined,
    trim: refuse,
    writeZeroes: refuse,
    extents: (at, length, countMax, call) => inner.extents(at, length, countMax, call),
    ...(inner.describe && { describe: inner.describe.bind(inner) }),
    ...(inner.zeroNow && { zeroNow: inner.zeroNow.bind(inner) }),
    prefetch: (at, length, call) => inner.prefetch(at, length, call),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
