import { BLOCK_BYTES } from '../../src/base/units.ts';
import { differences, type FamilyWorld, filled, OBJECT_BYTES } from './family-world.ts';

/** What a VDI or snapshot holds, block by block: 0 is zeroes, every other number a block full. */
export type Contents = readonly number[];

/** A family of disks as plain arrays, each whole: what a store without sharing would hold. */
export class FamilyModel {
  readonly #working = new Map<string, Contents>();
  readonly #snapshots = new Map<string, Contents>();

  get names(): string[] {
    return [...this.#working.keys()];
  }
  /** `NAME@TAG` of each. */
  get snapshots(): string[] {
    return [...this.#snapshots.keys()];
  }
  hasSnapshotsOf(name: string): boolean {
    return this.snapshots.some((each) => each.startsWith(`${name}@`));
  }
  of(name: string): Contents {
    const found = this.#working.get(name) ?? this.#snapshots.get(name);
    if (found === undefined) throw new Error(`the model has no ${name}`);
    return found;
  }
  has(name: string): boolean {
    return this.#working.has(name) || this.#snapshots.has(name);
  }

  create(name: string, blocks: number): void {
    this.#working.set(name, new Array<number>(blocks).fill(0));
  }
  fill(name: string, first: number, count: number, value: number): void {
    const fits = (block: number) => block >= first && block < first + count;
    this.#working.set(
      name,
      this.of(name).map((old, block) => (fits(block) ? value : old)),
    );
  }
  snapshot(name: string, tag: string): void {
    this.#snapshots.set(`${name}@${tag}`, this.of(name));
  }
  clone(snapshot: string, target: string): void {
    this.#working.set(target, this.of(snapshot));
  }
  rollback(name: string, tag: string): void {
    this.#working.set(name, this.of(`${name}@${tag}`));
  }
  resize(name: string, blocks: number): void {
    const old = this.of(name);
    this.#working.set(
      name,
      Array.from({ length: blocks }, (_, block) => old[block] ?? 0),
    );
  }
  delete(name: string): void {
    this.#working.delete(name);
    this.#snapshots.delete(name);
  }
  copy(): FamilyModel {
    const copy = new FamilyModel();
    for (const [name, contents] of this.#working) copy.#working.set(name, contents);
    for (const [name, contents] of this.#snapshots) copy.#snapshots.set(name, contents);
    return copy;
  }

  /** What differs between the world's disks and these, as sentences. */
  async compare(world: FamilyWorld): Promise<string[]> {
    const { directory, volumes } = world;
    const shown = (await volumes.list()).map(({ name }) => name).sort();
    const expected = [...this.names, ...this.snapshots].sort();
    if (shown.join() !== expected.join()) {
      return [`there are ${shown.join(' ')}; must be ${expected.join(' ')}`];
    }
    const found: string[] = [];
    for (const name of expected) {
      const contents = this.of(name);
      const device = await world.device(name);
      found.push(
        ...(await differences(device, contents.length, (block) => [contents[block] ?? 0])),
      );
    }
    const states = (await directory.all()).map(({ state }) => state);
    if (states.includes('making')) found.push('something is still being made');
    return found;
  }
}

/** The same change on a disk and in the model. */
export async function write(
  world: FamilyWorld,
  model: FamilyModel,
  name: string,
  { first, count, value }: { first: number; count: number; value: number },
): Promise<void> {
  const device = await world.device(name);
  await device.write(first * BLOCK_BYTES, filled(count, value), { durable: false });
  model.fill(name, first, count, value);
}

export async function create(
  world: FamilyWorld,
  model: FamilyModel,
  name: string,
  blocks: number,
): Promise<void> {
  await world.volumes.create({ name, sizeBytes: blocks * BLOCK_BYTES, objectBytes: OBJECT_BYTES });
  model.create(name, blocks);
}
