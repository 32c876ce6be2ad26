import type { ObjectName, Stamp } from '../../base/ids.ts';
import type { StaleObject } from './stale-list.ts';

/** A copy on another node that was read there and proven. */
export interface VerifiedCopy {
  readonly stamp: Stamp;
  /** The name of its content, as this store names it, if it is known. */
  readonly content?: Uint8Array;
}

/** What the cluster knows, and a store of one node cannot. */
export interface ClusterFacts {
  /**
   * Up to which epoch this slot is clean everywhere: of no object of it, as of that epoch or one
   * before, anybody lacks a copy that he has to serve. 0: it never was.
   */
  cleanUpTo(slot: number): number;
  /** The best copy that another node holds. Undefined: none that is verified. */
  verifiedElsewhere(name: ObjectName): VerifiedCopy | undefined;
}

/**
 * Whether what an epoch left behind may go. Never because this node holds something newer itself: its
 * disk may be the one that fails. A copy of the same stamp is not enough, for one of the two may lack
 * the last writes of that stamp; one of the same content is, or what nobody wrote again would stay
 * for ever.
 * @param epoch    in whose snap it stands
 * @param content  the name of what it holds
 */
export function mayGo(
  epoch: number,
  { name, stamp }: Pick<StaleObject, 'name' | 'stamp'>,
  content: Uint8Array,
  facts: ClusterFacts,
): boolean {
  if (facts.cleanUpTo(name.slot) < epoch) return false;
  const copy = facts.verifiedElsewhere(name);
  if (copy === undefined) return false;
  if (isNewer(copy.stamp, stamp)) return true;
  return copy.content !== undefined && Buffer.compare(copy.content, content) === 0;
}

/** By epoch, then by owner. */
function isNewer(one: Stamp, other: Stamp): boolean {
  return (
    one.epoch > other.epoch || (one.epoch === other.epoch && one.attachEpoch > other.attachEpoch)
  );
}
