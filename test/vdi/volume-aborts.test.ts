import { describe, expect, test } from 'vitest';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import { makeVolume, openVolume } from '../../src/vdi/open-volume.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { SimStore } from '../farm/store.ts';
import { hooked, ROOMY_LIMITS, recordOf, type StoreFault } from './stores.ts';

/** 600 objects: more than one step of a trim. */
const record = recordOf({ sizeBytes: 600 * recordOf().objectBytes });
const { sizeBytes, objectBytes } = record;
const reason = new Error('nobody waits for it');
const PLAIN = { durable: false };
const ZERO = { ...PLAIN, keepAllocated: false, fastOnly: false };
const bytes = new Uint8Array(objectBytes).fill(7);

/** A full disk, and what its store is asked for from then on. */
async function written() {
  const store = await SimStore.open({ limits: ROOMY_LIMITS });
  await makeVolume({ store: store.farm, record });
  let before: StoreFault = () => undefined;
  const over: ObjectStore = {
    ...hooked(store.farm, (operation, names) => before(operation, names)),
  };
  const volume = await openVolume({ store: over, record });
  for (let at = 0; at < sizeBytes; at += objectBytes) await volume.write(at, bytes, PLAIN);
  const watch = (next: StoreFault) => {
    before = next;
  };
  return { volume, watch, [Symbol.asyncDispose]: () => store.farm[Symbol.asyncDispose]() };
}

async function isZero(volume: Volume, index: number): Promise<boolean> {
  const into = new Uint8Array(objectBytes);
  await volume.read(index * objectBytes, into);
  if (into.every((byte) => byte === 0)) return true;
  expect(Buffer.compare(into, bytes), 'all of it is as it was').toBe(0);
  return false;
}

describe('what goes on in steps ends with the next one when it is aborted', () => {
  test('a zero that keeps its space', async () => {
    await using it = await written();
    const ending = new AbortController();
    let zeroed = 0;
    it.watch((operation) => {
      if (operation !== 'zero') return;
      zeroed += 1;
      if (zeroed === 20) ending.abort(reason);
    });
    const call = { ...ZERO, keepAllocated: true, signal: ending.signal };
    await expect(it.volume.writeZeroes(0, sizeBytes, call)).rejects.toBe(reason);
    expect(zeroed).toBe(20);
    it.watch(() => undefined);
    expect(await isZero(it.volume, 0)).toBe(true);
    expect(await isZero(it.volume, 599)).toBe(false);
    // Nothing is left shut behind it.
    await it.volume.writeZeroes(0, sizeBytes, { ...ZERO, keepAllocated: true });
    expect(await isZero(it.volume, 599)).toBe(true);
  });

  test.for(['trim', 'writeZeroes'] as const)('a %s of whole objects', async (how) => {
    await using it = await written();
    const ending = new AbortController();
    let steps = 0;
    it.watch((operation) => {
      if (operation !== 'announce') return;
      steps += 1;
      ending.abort(reason);
    });
    const clearing = it.volume[how](0, sizeBytes, { ...ZERO, signal: ending.signal });
    await expect(clearing).rejects.toBe(reason);
    expect(steps).toBe(1);
    it.watch(() => undefined);
    expect(await isZero(it.volume, 0)).toBe(true);
    expect(await isZero(it.volume, 599)).toBe(false);
    await it.volume[how](0, sizeBytes, ZERO);
    expect(await isZero(it.volume, 599)).toBe(true);
  });

  test('a prefetch', async () => {
    await using it = await written();
    const ending = new AbortController();
    let reads = 0;
    it.watch((operation) => {
      reads += 1;
      if (operation === 'read' && reads === 2) ending.abort(reason);
    });
    const reading = it.volume.prefetch(0, sizeBytes, { signal: ending.signal });
    await expect(reading).rejects.toBe(reason);
    expect(reads).toBeLessThan(20); // those of one step, which reads several objects
  });

  test('a question what is where, and who holds it', async () => {
    await using it = await written();
    const call = { signal: AbortSignal.abort(reason) };
    await expect(it.volume.extents(0, sizeBytes, 100, call)).rejects.toBe(reason);
    const depth = it.volume.describe('qemu:allocation-depth', 0, sizeBytes, 100, call);
    await expect(depth).rejects.toBe(reason);
  });
});
