import type { Call, Completion, ReadCall, WriteCall } from './call.ts';

export interface DeviceInfo {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** For people: what LIST and INFO say of it. */
  readonly description: string;
  /** Names of metadata contexts that `describe` answers besides `base:allocation`. */
  readonly contexts?: readonly string[];
}

/** What `extents` says of a run of bytes; NBD "base:allocation" (doc/proto.md, Metadata querying). */
export interface Extent {
  readonly length: number;
  /** No space is reserved for it. */
  readonly hole: boolean;
  /** It reads as zeroes. */
  readonly zero: boolean;
}

/** What `describe` says of a run of bytes: flags whose meaning is the context's. */
export interface Described {
  readonly length: number;
  readonly flags: number;
}

export interface ZeroCall extends WriteCall {
  /** Keep the space reserved (NBD NO_HOLE). */
  readonly keepAllocated: boolean;
  /** Refuse with `ERR_NOT_FAST`, nothing changed, unless it is faster than writing (FAST_ZERO). */
  readonly fastOnly: boolean;
}

export interface FlushCall extends Call {
  /** Only what touches these bytes has to survive; absent: everything. */
  readonly range?: { readonly at: number; readonly length: number };
}

/**
 * A flat run of bytes that survives restarts. Suite: test/contracts/block-device.ts.
 *
 * Any offset and length from one byte on is served. `at + length <= sizeBytes` is the caller's duty
 * (nbd/validate.ts). An aligned block of 4 KiB is entirely old or entirely new, whatever happens.
 * Overlapping operations in flight take effect in either order, block by block; one that is called
 * after another has settled sees its effect. Buffers are lent until the operation is settled.
 *
 * Any operation may throw (or reject with) SheepError `ERR_IO`, `ERR_CORRUPT`, `ERR_MISSING`,
 * `ERR_NO_SPACE`, `ERR_SHUTDOWN`; then each block of the range holds its old or its new bytes.
 */
export interface BlockDevice extends AsyncDisposable {
  readonly info: DeviceInfo;
  /** Fills all of `into` from byte `at`; never-written bytes read as zero. */
  read(at: number, into: Uint8Array, call?: ReadCall): Completion;
  /**
   * Stores `from` at byte `at`.
   * @param from  1 byte to 64 MiB
   * @throws SheepError `ERR_READ_ONLY`: nothing changed
   * @see NBD doc/proto.md, "NBD_CMD_WRITE", "NBD_CMD_FLAG_FUA"
   */
  write(at: number, from: Uint8Array, call: WriteCall): Completion;
  /** Settles once every write that settled before this call survives a power cut. */
  flush(call?: FlushCall): Completion;
  /** The bytes are no longer needed. Afterwards whole blocks read as zero, parts of blocks stay. */
  trim(at: number, length: number, call: WriteCall): Completion;
  /** The bytes read as zero afterwards. @throws SheepError `ERR_NOT_FAST`, `ERR_READ_ONLY` */
  writeZeroes(at: number, length: number, call: ZeroCall): Completion;
  /**
   * What stands where, from `at` on, consecutive, at least one, at most `countMax`. They cover
   * `length`, or less if to know more would take long; none reaches beyond `at + length`;
   * neighbours differ.
   */
  extents(at: number, length: number, countMax: number, call?: Call): Extent[] | Promise<Extent[]>;
  /**
   * The same for a context that `info.contexts` names: `qemu:allocation-depth` (0 nobody holds it, 1
   * this VDI, 2 the snapshot below, and so on), `qemu:dirty-bitmap:TAG` (1: it may differ from
   * snapshot TAG).
   */
  describe?(
    context: string,
    at: number,
    length: number,
    countMax: number,
    call?: Call,
  ): Promise<Described[]>;
  /**
   * True if these bytes are known, without waiting, to read as zeroes; false says nothing. A read
   * called next shows the same state. Absent: the device never knows.
   */
  zeroNow?(at: number, length: number): boolean;
  /**
   * A hint that these bytes will be read soon (NBD_CMD_CACHE). It takes as long as to read them:
   * whoever asks for much asks for one part after the other.
   */
  prefetch(at: number, length: number, call?: Call): Completion;
}
