import { type ObjectName, type Stamp, slotOf } from '../../../src/base/ids.ts';
import { compareOids } from '../../../src/farm/snapshots/stale-list.ts';
import type { KeepOptions, LeftBehind } from '../../../src/farm/snapshots/stale-objects.ts';
import type { ClusterFacts, VerifiedCopy } from '../../../src/farm/snapshots/stale-rules.ts';
import { content } from './store-world.ts';

/** What stands in an object, as a seed; 0: zeroes. */
export interface Made {
  readonly name: ObjectName;
  readonly stamp: Stamp;
  readonly bytes: number;
  readonly seed: number;
}

export function object(vid: number, index: number, more: Partial<Made> = {}): Made {
  const name = { kind: 0, vid, index, slot: slotOf(vid, index) } as const;
  return { name, stamp: { epoch: 1, attachEpoch: 1 }, bytes: 16_384, seed: 1, ...more };
}

export function bytesOfMade({ seed, bytes }: Made): Uint8Array {
  return seed === 0 ? new Uint8Array(bytes) : content(seed, bytes);
}

/** As recovery would hand them over. */
function leftBehind(made: readonly Made[]): LeftBehind[] {
  return made
    .toSorted((one, other) => compareOids(one.name, other.name))
    .map((each) => {
      const all = bytesOfMade(each);
      return { ...each, read: (at, into) => void into.set(all.subarray(at, at + into.length)) };
    });
}

export function keeping(epoch: number, made: readonly Made[]): KeepOptions {
  const clusterId = '00000000-0000-4000-8000-000000000000';
  return { epoch, timeMs: epoch * 1000, nodes: [], clusterId, objects: leftBehind(made) };
}

/** What other nodes hold and which slots are clean, as a plain table. */
export class Cluster implements ClusterFacts {
  readonly #clean = new Map<number, number>();
  readonly #copies = new Map<string, VerifiedCopy>();

  clean(epoch: number, ...names: readonly ObjectName[]): this {
    for (const { slot } of names) this.#clean.set(slot, epoch);
    return this;
  }
  holds(name: ObjectName, copy: VerifiedCopy): this {
    this.#copies.set(key(name), copy);
    return this;
  }
  cleanUpTo(slot: number): number {
    return this.#clean.get(slot) ?? 0;
  }
  verifiedElsewhere(name: ObjectName): VerifiedCopy | undefined {
    return this.#copies.get(key(name));
  }
}

export function key({ kind, vid, index }: ObjectName): string {
  return `${kind}/${vid}/${index}`;
}
