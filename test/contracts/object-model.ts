import { formatOid, type ObjectName, type Stamp } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Random } from '../../src/contracts/seams.ts';

/** Whole blocks, and a size that ends inside one. */
const SIZES = [8 * BLOCK_BYTES, 5 * BLOCK_BYTES + 100];

/**
 * Objects as plain arrays, beside a store that is asked for the same things: operations are called
 * in bursts, without waiting for each other, and each must show what the order of calls says.
 */
export class ObjectModel {
  readonly #random: Random;
  readonly #names: readonly ObjectName[];
  readonly #stamp: Stamp;
  readonly #objects = new Map<ObjectName, Uint8Array>();
  /** What the store did and the order of calls does not allow, as sentences. */
  readonly mismatches: string[] = [];
  reads = 0;
  #value = 0;

  constructor(random: Random, names: readonly ObjectName[], stamp: Stamp) {
    this.#random = random;
    this.#names = names;
    this.#stamp = stamp;
  }

  /** So many operations at once; settles when all have. */
  async burst(store: ObjectStore, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#step(store)));
  }

  /** All that the store holds, against all that it should. */
  async compare(store: ObjectStore): Promise<void> {
    for (const name of this.#names) await this.#read(store, name, 0, this.#sizeOf(name));
  }

  #step(store: ObjectStore): Promise<void> {
    const name = this.#pick(this.#names);
    const dice = this.#random.below(20);
    if (dice < 2) return this.#remove(store, name);
    const { at, length } = this.#range(this.#sizeOf(name));
    if (dice < 9) return this.#write(store, name, at, length);
    if (dice < 12) return this.#zero(store, name, at, length);
    if (dice < 14) return this.#extents(store, name, at, length);
    if (dice < 15) return settled(() => store.flush(name.vid)).then(() => undefined);
    return this.#read(store, name, at, length);
  }

  #write(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    this.#value = (this.#value % 255) + 1;
    const from = new Uint8Array(length).fill(this.#value);
    const { object, call } = this.#changing(name, this.#random.below(3) === 0);
    const end = Math.min(at + length, object?.length ?? 0);
    object?.fill(this.#value, at, end);
    const bytes = object ? from.subarray(0, end - at) : from;
    return this.#expect(`write ${label(name)}`, object !== undefined, () =>
      store.write(name, at, bytes, call),
    );
  }

  #zero(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    const { object, call } = this.#changing(name, this.#random.below(6) === 0);
    const end = Math.min(at + length, object?.length ?? 0);
    object?.fill(0, at, end);
    const keepAllocated = this.#random.below(2) === 0;
    return this.#expect(`zero ${label(name)}`, object !== undefined, () =>
      store.zero(name, at, object ? end - at : length, { ...call, keepAllocated }),
    );
  }

  /** The object's bytes after a change that may make it, and the call that says so. */
  #changing(name: ObjectName, make: boolean) {
    const durable = this.#random.below(8) === 0;
    const call = { stamp: this.#stamp, durable };
    if (!make) return { object: this.#objects.get(name), call };
    // No smaller than the range may reach: that was drawn for the size it has now.
    const createBytes = Math.max(this.#pick(SIZES), this.#sizeOf(name));
    const object = new Uint8Array(createBytes);
    this.#objects.set(name, object);
    return { object, call: { ...call, createBytes } };
  }

  #remove(store: ObjectStore, name: ObjectName): Promise<void> {
    this.#objects.delete(name);
    return this.#expect(`remove ${label(name)}`, true, () =>
      store.remove(name, { stamp: this.#stamp, durable: false }),
    );
  }

  async #read(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    const expected = this.#objects.get(name)?.slice(at, at + length);
    const into = new Uint8Array(length).fill(0xee);
    this.reads += 1;
    await this.#expect(`read ${label(name)}`, expected !== undefined, () =>
      store.read(name, at, into),
    );
    if (expected === undefined) return;
    for (const [place, byte] of expected.entries()) {
      if (byte === into[place]) continue;
      const where = `byte ${at + place} of ${label(name)}`;
      this.mismatches.push(`${where} reads ${into[place]}, must be ${byte}`);
      return;
    }
  }

  async #extents(store: ObjectStore, name: ObjectName, at: number, length: number) {
    const expected = this.#objects.get(name)?.slice(at, at + length);
    let found: Awaited<ReturnType<ObjectStore['extents']>> = [];
    await this.#expect(`extents ${label(name)}`, expected !== undefined, async () => {
      found = await store.extents(name, at, length);
    });
    if (expected === undefined) return;
    let place = 0;
    for (const extent of found) {
      const bytes = expected.subarray(place, place + extent.length);
      place += extent.length;
      if (extent.content === 'data' || bytes.every((byte) => byte === 0)) continue;
      this.mismatches.push(`extents ${label(name)}: data is called ${extent.content}`);
    }
    if (place !== length) this.mismatches.push(`extents ${label(name)} cover ${place} bytes`);
  }

  /** It must succeed, or be refused because the object is missing. */
  async #expect(what: string, present: boolean, run: () => unknown): Promise<void> {
    const error = await settled(run);
    const code = error === undefined ? 'done' : ((error as { code?: string }).code ?? error);
    const expected = present ? 'done' : 'ERR_MISSING';
    if (code !== expected) this.mismatches.push(`${what}: ${String(code)}, must be ${expected}`);
  }

  #sizeOf(name: ObjectName): number {
    return this.#objects.get(name)?.length ?? (SIZES[0] as number);
  }

  #range(size: number): { at: number; length: number } {
    const whole = this.#random.below(2) === 0;
    if (whole) {
      const blocks = Math.floor(size / BLOCK_BYTES);
      const first = this.#random.below(blocks);
      const length = 1 + this.#random.below(blocks - first);
      return { at: first * BLOCK_BYTES, length: length * BLOCK_BYTES };
    }
    const at = this.#random.below(size);
    return { at, length: 1 + this.#random.below(Math.min(size - at, 3 * BLOCK_BYTES)) };
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)] as T;
  }
}

function label(name: ObjectName): string {
  return formatOid(name);
}

/** Calls it now; gives what it failed with. */
function settled(run: () => unknown): Promise<unknown> {
  try {
    return Promise.resolve(run()).then(
      () => undefined,
      (error: unknown) => error,
    );
  } catch (error) {
    return Promise.resolve(error);
  }
}
