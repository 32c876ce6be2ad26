import { allSettled } from '../../base/parallel.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { NbdClient } from '../../nbd/client/connect.ts';

/** A VDI or snapshot as a sheep serves it. */
export interface Export extends BlockDevice {
  /** Aborted with the reason when a connection is lost, also while nothing is asked. */
  readonly lost: AbortSignal;
}

/**
 * Several connections to one export as one: data goes over each in turn, so that no full socket
 * holds up the rest. The others may be asked only of a server that shows the same disk on all of
 * them (`multiConn`); a flush on one covers what was written on any.
 */
export function spread(first: NbdClient, others: readonly NbdClient[]): Export {
  const all = [first, ...others];
  let turn = 0;
  const next = (): NbdClient => {
    turn = (turn + 1) % all.length;
    return all[turn] as NbdClient;
  };
  return {
    info: first.info,
    lost: AbortSignal.any(all.map(({ lost }) => lost)),
    read: (at, into, call) => next().read(at, into, call),
    write: (at, from, call) => next().write(at, from, call),
    writeZeroes: (at, length, call) => next().writeZeroes(at, length, call),
    trim: (at, length, call) => next().trim(at, length, call),
    flush: (call) => first.flush(call),
    extents: (at, length, countMax, call) => first.extents(at, length, countMax, call),
    describe: (context, at, length, countMax, call) =>
      first.describe(context, at, length, countMax, call),
    prefetch: (at, length, call) => next().prefetch(at, length, call),
    [Symbol.asyncDispose]: () => allSettled(all.map(async (one) => one[Symbol.asyncDispose]())),
  };
}
