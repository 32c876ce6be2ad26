import { expect } from 'vitest';
import { KIND, type ObjectName, slotOf } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { ObjectStore, ObjectWriteCall } from '../../src/contracts/object-store.ts';

/** How a store ends; what it held is looked at in the next one. */
export type Stop = 'clean stop' | 'kill' | 'power cut';

export interface StoreWorld extends AsyncDisposable {
  /** Holds nothing. */
  readonly store: ObjectStore;
  /** Ends it like this and opens the same one again. A power cut takes all that it may take. */
  stop(how: Stop): Promise<ObjectStore>;
}

export const B = BLOCK_BYTES;
export const VID = 7;
export const SIZE = 8 * B;
export const STAMP = Object.freeze({ epoch: 1, attachEpoch: 1 });
export const PLAIN: ObjectWriteCall = { stamp: STAMP, durable: false };
export const DURABLE: ObjectWriteCall = { stamp: STAMP, durable: true };
export const CREATE: ObjectWriteCall = { ...PLAIN, createBytes: SIZE };
export const ZERO = { ...PLAIN, keepAllocated: false };
export const KEEP = { ...PLAIN, keepAllocated: true };

export const nameOf = (index: number, vid = VID): ObjectName => ({
  kind: KIND.data,
  vid,
  index,
  slot: slotOf(vid, index),
});
export const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

export async function read(store: ObjectStore, name: ObjectName, at: number, length: number) {
  const into = filled(length, 0xee);
  await store.read(name, at, into);
  return into;
}

export async function extents(store: ObjectStore, name: ObjectName, at = 0, length = SIZE) {
  const found = await store.extents(name, at, length);
  return found.map((extent) => `${extent.content} ${extent.length}`).join(', ');
}

export function oids(names: readonly ObjectName[]): string[] {
  return names.map(({ vid, index }) => `${vid}/${index}`).sort();
}

/** Quick where they are equal, and telling where they are not. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual).toEqual(expected);
}

export async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
    return 'none';
  } catch (error) {
    return String((error as { code?: unknown }).code ?? error);
  }
}
