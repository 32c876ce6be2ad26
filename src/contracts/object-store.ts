import type { ObjectName, Stamp, Vid } from '../base/ids.ts';
import type { Call, Completion, ReadCall, WriteCall } from './call.ts';

export interface ObjectWriteCall extends WriteCall {
  /** The writer's epoch and attach epoch: what the object carries from now on. */
  readonly stamp: Stamp;
  /**
   * The object's size if this write makes it: of zeroes, and whatever an orphan of this name held
   * is discarded. Absent: the object exists.
   */
  readonly createBytes?: number;
  /**
   * With `createBytes`: blocks that nobody has written read as the object of this vid, of the same
   * kind, index and slot, reads. That one is there, is as large, and never changes again.
   */
  readonly inherits?: Vid;
  /** What is made is nobody's yet: it stays among `unsettled` until `owned` is called for it. */
  readonly unowned?: true;
}

export interface ObjectZeroCall extends ObjectWriteCall {
  /** Keep the space reserved. */
  readonly keepAllocated: boolean;
}

/** A run of blocks inside an object that hold data, that are reserved and zero, or that are holes. */
export interface ObjectExtent {
  readonly length: number;
  readonly content: 'data' | 'zero' | 'hole';
}

/**
 * Named objects of a fixed size. Cache, gateway and working directory all have this shape, so that
 * one line of the composition root removes the cache. Suite: test/contracts/object-store.ts.
 *
 * Overlapping operations on one object take effect in the order in which they were called, reads
 * included. A block of 4 KiB is entirely old or entirely new. Buffers are lent until it is settled.
 * An unsettled operation whose promise rejects has changed, per block, all or nothing.
 */
export interface ObjectStore extends AsyncDisposable {
  /** Fills all of `into`. @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
  read(name: ObjectName, at: number, into: Uint8Array, call?: ReadCall): Completion;
  /** @throws SheepError `ERR_MISSING` without `createBytes`; `ERR_NO_SPACE`: nothing changed */
  write(name: ObjectName, at: number, from: Uint8Array, call: ObjectWriteCall): Completion;
  /** The bytes read as zero afterwards; whole blocks give their space back unless told otherwise. */
  zero(name: ObjectName, at: number, length: number, call: ObjectZeroCall): Completion;
  /**
   * From now on these objects may change or go, and nobody may own them any more: settles when
   * they will be among `unsettled`, even after a power cut.
   */
  announce(names: readonly ObjectName[], objectBytes: number, call: ObjectWriteCall): Promise<void>;
  /** An entry that names this object has been written, or the one that did still does. */
  owned(name: ObjectName): void;
  /**
   * The objects of a VDI that may have been changing, made or removed when it was last in use: a new
   * owner looks at each of them before it serves.
   */
  unsettled(vid: Vid): readonly ObjectName[];
  /** The object is gone; its name may be created anew. Removing what is not there is no error. */
  remove(name: ObjectName, call: ObjectWriteCall): Completion;
  /**
   * Settles once every operation on objects of `vid` that settled before this call survives a power
   * cut; with `only`, every such operation on these objects.
   */
  flush(vid: Vid, only?: readonly ObjectName[], call?: Call): Completion;
  /**
   * For each block the vid whose object holds it: its own for what was written to it or reserved,
   * another where it inherits, 0 for a hole. @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`
   */
  sources(name: ObjectName): Uint32Array | Promise<Uint32Array>;
  /** What stands where in `at` to `at + length`, consecutive; whole blocks but for the two ends. */
  extents(
    name: ObjectName,
    at: number,
    length: number,
  ): readonly ObjectExtent[] | Promise<readonly ObjectExtent[]>;
}
