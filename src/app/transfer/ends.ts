import { roundDown } from '../../base/units.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Call, Completion } from '../../contracts/call.ts';
import { TRANSFER_LIMITS } from './limits.ts';

const ZERO_STEP = TRANSFER_LIMITS.zeroBytes;

/** Bytes that read as zero, or bytes that may be anything. */
export interface Run {
  readonly length: number;
  readonly zero: boolean;
}

/** A disk that can be read anywhere: a file, or an export of a sheep. */
export interface ImageSource {
  readonly sizeBytes: number;
  /** What stands from `at` on, consecutive, at least one run; together `length` bytes, or less. */
  runs(at: number, length: number, call?: Call): Promise<readonly Run[]>;
  /** Fills all of `into`. */
  read(at: number, into: Uint8Array, call?: Call): Completion;
}

/** Where a disk goes. Pieces come in order of their bytes, each byte once; many at a time. */
export interface ImageSink {
  /** `from` is lent until it settles. */
  write(at: number, from: Uint8Array): Completion;
  /** These bytes are to read as zero, and need no space. */
  zero(at: number, length: number): Completion;
}

export function deviceSource(device: BlockDevice): ImageSource {
  return {
    sizeBytes: device.info.sizeBytes,
    read: (at, into, call) => device.read(at, into, call),
    runs: async (at, length, call) => {
      const asked = Math.min(length, TRANSFER_LIMITS.extentBytes);
      return device.extents(at, asked, TRANSFER_LIMITS.extentsMax, call);
    },
  };
}

/** @param fresh  nobody has ever written to it: what is to read as zero does so already */
export function deviceSink(device: BlockDevice, fresh: boolean): ImageSink {
  const call = { durable: false, keepAllocated: false, fastOnly: false };
  return {
    write: (at, from) => device.write(at, from, call),
    zero: async (at, length) => {
      if (fresh) return;
      const end = at + length;
      for (let from = at; from < end; ) {
        // At borders of objects: a whole one goes, a part of one has to stay.
        const to = Math.min(end, roundDown(from, ZERO_STEP) + ZERO_STEP);
        await device.writeZeroes(from, to - from, call);
        from = to;
      }
    },
  };
}
