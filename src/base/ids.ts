import { assert } from './assert.ts';
import { SheepError } from './errors.ts';

/**
 * Names of objects: 64 bits written as 16 hex digits; index in bits 0-27, vid in
 * bits 28-59, kind in bits 60-63. In memory the parts stand apart, because no number holds 64 bits
 * and a bigint per request would cost more than the request.
 */
export const KIND = { data: 0, inode: 1, attribute: 2 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** 1 to 2^32 - 1; never used again. 0 in an inode means: a hole. */
export type Vid = number;

const INDEX_BITS = 28;
export const INDEXES_MAX = 2 ** INDEX_BITS;
export const VID_MAX = 2 ** 32 - 1;

/** Which object; `slot` travels with it, because the oid alone does not give it. */
export interface ObjectName {
  readonly kind: Kind;
  readonly vid: Vid;
  readonly index: number;
  readonly slot: number;
}

/** What an object carries: in which epoch and by which owner it was last written. */
export interface Stamp {
  readonly epoch: number;
  readonly attachEpoch: number;
}

/** The number of hash buckets of a cluster. */
const SLOTS = 1024;

/** The 16 hex digits of an object. */
export function formatOid(name: Pick<ObjectName, 'kind' | 'vid' | 'index'>): string {
  return oidBits(name).toString(16).padStart(16, '0');
}

export function oidBits(name: Pick<ObjectName, 'kind' | 'vid' | 'index'>): bigint {
  return (BigInt(name.kind) << 60n) | (BigInt(name.vid) << 28n) | BigInt(name.index);
}

/** 8 hex digits, as they stand in the oids of its objects. */
export function formatVid(vid: Vid): string {
  return vid.toString(16).padStart(8, '0');
}

/** The parts of an oid. @throws SheepError `ERR_BAD_FRAME` for a kind that does not exist. */
export function oidParts(bits: bigint): { kind: Kind; vid: Vid; index: number } {
  const kind = Number((bits >> 60n) & 0xfn);
  if (kind > KIND.attribute) {
    throw new SheepError('ERR_BAD_FRAME', `no object is of kind ${kind}`, { oid: bits });
  }
  return {
    kind: kind as Kind,
    vid: Number((bits >> 28n) & 0xffff_ffffn),
    index: Number(bits & 0xfff_ffffn),
  };
}

/**
 * A key for maps. Almost always a number; a string where the parts need more than 53 bits
 * (vids above two million).
 */
export function objectKey(kind: Kind, vid: Vid, index: number): number | string {
  const high = vid * 16 + kind;
  return high < 2 ** 25 ? high * INDEXES_MAX + index : `${kind}:${vid}:${index}`;
}

/** slot = hash(family, index): a clone's object lies where its parent's does. FNV-1a, then mixed. */
export function slotOf(family: Vid, index: number, slots = SLOTS): number {
  assert((slots & (slots - 1)) === 0, 'the number of slots is a power of two');
  let hash = 0x811c9dc5;
  for (const word of [family, index]) {
    for (let shift = 0; shift < 32; shift += 8) {
      hash = Math.imul(hash ^ ((word >>> shift) & 0xff), 0x01000193);
    }
  }
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) & (slots - 1);
}
