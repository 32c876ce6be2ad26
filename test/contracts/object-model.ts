import { formatOid, type ObjectName, type Stamp } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Random } from '../../src/contracts/seams.ts';

/** Whole blocks, and a size that ends inside one. */
const SIZES = [8 * BLOCK_BYTES, 5 * BLOCK_BYTES + 100];

/** What an object holds, and for each of its blocks whose object the bytes stand in. */
interface Held {
  readonly bytes: Uint8Array;
  readonly sources: Uint32Array;
}

/**
 * Objects as plain arrays, beside a store that is asked for the same things: operations are called
 * in bursts, without waiting for each other, and each must show what the order of calls says.
 */
export class ObjectModel {
  readonly #random: Random;
  readonly #stamp: Stamp;
  #names: readonly ObjectName[];
  readonly #objects = new Map<ObjectName, Held>();
  /** Frozen objects, newest first: what is made now inherits from the first of its index. */
  readonly #frozen: [ObjectName, Held][] = [];
  /** What the store did and the order of calls does not allow, as sentences. */
  readonly mismatches: string[] = [];
  reads = 0;
  #value = 0;

  constructor(random: Random, names: readonly ObjectName[], stamp: Stamp) {
    this.#random = random;
    this.#names = names;
    this.#stamp = stamp;
  }

  /** What there is never changes again; from now on the objects of the next vid are used. */
  freeze(): void {
    this.#frozen.unshift(...this.#objects);
    this.#objects.clear();
    this.#names = this.#names.map((name) => ({ ...name, vid: name.vid + 1 }));
  }

  async flush(store: ObjectStore): Promise<void> {
    for (const vid of new Set(this.#names.map((name) => name.vid))) await store.flush(vid);
  }

  /** So many operations at once; settles when all have. */
  async burst(store: ObjectStore, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#step(store)));
  }

  /** All that the store holds, against all that it should. */
  async compare(store: ObjectStore): Promise<void> {
    for (const name of this.#names) await this.#look(store, name, this.#objects.get(name));
    for (const [name, held] of this.#frozen) await this.#look(store, name, held);
  }

  async #look(store: ObjectStore, name: ObjectName, held: Held | undefined): Promise<void> {
    await this.#readHeld(store, name, held, 0, held?.bytes.length ?? 1);
    await this.#sources(store, name, held);
  }

  #step(store: ObjectStore): Promise<void> {
    const name = this.#pick(this.#names);
    const dice = this.#random.below(20);
    if (dice < 2) return this.#remove(store, name);
    const { at, length } = this.#range(this.#sizeOf(name));
    if (dice < 9) return this.#write(store, name, at, length);
    if (dice < 12) return this.#zero(store, name, at, length);
    if (dice < 13) return this.#extents(store, name, at, length);
    if (dice < 14) return this.#sources(store, name, this.#objects.get(name));
    if (dice < 15) return settled(() => store.flush(name.vid)).then(() => undefined);
    return this.#read(store, name, at, length);
  }

  #write(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    // Now and then zeroes: where something is inherited these are not like other bytes.
    this.#value = (this.#value % 255) + 1;
    const value = this.#random.below(4) === 0 ? 0 : this.#value;
    const { held, call } = this.#changing(name, this.#random.below(3) === 0);
    const end = Math.min(at + length, held?.bytes.length ?? at + length);
    held?.bytes.fill(value, at, end);
    held?.sources.fill(name.vid, Math.floor(at / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES));
    const bytes = new Uint8Array(end - at).fill(value);
    return this.#expect(`write ${label(name)}`, held !== undefined, () =>
      store.write(name, at, bytes, call),
    );
  }

  #zero(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    const { held, call } = this.#changing(name, this.#random.below(6) === 0);
    const end = Math.min(at + length, held?.bytes.length ?? at + length);
    const keepAllocated = this.#random.below(2) === 0;
    held?.bytes.fill(0, at, end);
    for (let block = Math.floor(at / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) {
      const whole = block * BLOCK_BYTES >= at && (block + 1) * BLOCK_BYTES <= end;
      const hole = held?.sources[block] === 0;
      held?.sources.fill(!keepAllocated && (whole || hole) ? 0 : name.vid, block, block + 1);
    }
    return this.#expect(`zero ${label(name)}`, held !== undefined, () =>
      store.zero(name, at, end - at, { ...call, keepAllocated }),
    );
  }

  /** The object as it is before a change that may make it, and the call that says so. */
  #changing(name: ObjectName, make: boolean) {
    const durable = this.#random.below(8) === 0;
    const call = { stamp: this.#stamp, durable };
    if (!make) return { held: this.#objects.get(name), call };
    const above = this.#frozen.find(([frozen]) => frozen.index === name.index);
    if (above !== undefined) {
      const [{ vid }, { bytes, sources }] = above;
      const held = { bytes: bytes.slice(), sources: sources.slice() };
      this.#objects.set(name, held);
      return { held, call: { ...call, createBytes: bytes.length, inherits: vid } };
    }
    // No smaller than the range may reach: that was drawn for the size it has now.
    const createBytes = Math.max(this.#pick(SIZES), this.#sizeOf(name));
    const held = {
      bytes: new Uint8Array(createBytes),
      sources: new Uint32Array(Math.ceil(createBytes / BLOCK_BYTES)),
    };
    this.#objects.set(name, held);
    return { held, call: { ...call, createBytes } };
  }

  #remove(store: ObjectStore, name: ObjectName): Promise<void> {
    this.#objects.delete(name);
    return this.#expect(`remove ${label(name)}`, true, () =>
      store.remove(name, { stamp: this.#stamp, durable: false }),
    );
  }

  #read(store: ObjectStore, name: ObjectName, at: number, length: number): Promise<void> {
    return this.#readHeld(store, name, this.#objects.get(name), at, length);
  }

  async #readHeld(
    store: ObjectStore,
    name: ObjectName,
    held: Held | undefined,
    at: number,
    length: number,
  ): Promise<void> {
    const expected = held?.bytes.slice(at, at + length);
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

  async #sources(store: ObjectStore, name: ObjectName, held: Held | undefined): Promise<void> {
    const expected = held?.sources.slice();
    let found = new Uint32Array(0);
    await this.#expect(`sources ${label(name)}`, expected !== undefined, async () => {
      found = new Uint32Array(await store.sources(name));
    });
    if (expected === undefined) return;
    // Zeroes that were reserved may be a hole after a stop.
    const zeroes = (block: number) =>
      held?.bytes
        .subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        .every((byte) => byte === 0) === true;
    const said = expected.map((vid, block) => (found[block] === 0 && zeroes(block) ? 0 : vid));
    if (`${found}` === `${said}`) return;
    this.mismatches.push(`sources ${label(name)} are ${found}, must be ${expected}`);
  }

  async #extents(store: ObjectStore, name: ObjectName, at: number, length: number) {
    const expected = this.#objects.get(name)?.bytes.slice(at, at + length);
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
    const above = this.#frozen.find(([{ index }]) => index === name.index)?.[1];
    const held = this.#objects.get(name) ?? above;
    return held?.bytes.length ?? (SIZES[0] as number);
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
