import fc from 'fast-check';
import { expect } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { create, FamilyModel, write } from './family-model.ts';
import { type FamilyWorld, leaks, OBJECT_BLOCKS, objectFiles, STORE } from './family-world.ts';

/** One step of a random life; numbers are taken modulo what there is to choose from. */
export interface Step {
  readonly kind: string;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}
export const KINDS: readonly string[] = [
  ...Array<'write'>(6).fill('write'),
  ...Array<'zero'>(2).fill('zero'),
  ...Array<'trim'>(2).fill('trim'),
  'trim-objects',
  ...Array<'snapshot'>(3).fill('snapshot'),
  ...Array<'clone'>(2).fill('clone'),
  'rollback',
  'resize',
  ...Array<'delete'>(2).fill('delete'),
  'settle',
  'stop',
  'kill',
  'power-cut',
];

/** A life of such steps. */
export function stepsOf(kinds: readonly string[]): fc.Arbitrary<Step[]> {
  const number = fc.nat(2 ** 20);
  const step = fc.record({ kind: fc.constantFrom(...kinds), a: number, b: number, c: number });
  return fc.array(step, { minLength: 5, maxLength: 40 });
}

const BLOCKS = 3 * OBJECT_BLOCKS + 5;

/** A life of a family, step by step, beside the model. */
export class Life<World extends FamilyWorld> {
  readonly model = new FamilyModel();
  disk = new SimDisk({ directories: [STORE] });
  world!: World;
  readonly #open: (disk: SimDisk) => Promise<World>;
  #value = 0;
  #names = 0;

  constructor(open: (disk: SimDisk) => Promise<World>) {
    this.#open = open;
  }

  /** A step of a kind that a family alone does not know. */
  protected other({ kind }: Step): Promise<void> {
    throw new Error(`there is no step ${kind}`);
  }
  /** All that was done before the last members are deleted. */
  protected async atEnd(): Promise<void> {}

  async run(life: readonly Step[]): Promise<void> {
    this.world = await this.#open(this.disk);
    await create(this.world, this.model, 'base', BLOCKS);
    for (const step of life) {
      await this.#step(step);
      await this.#check();
    }
    await this.#restart('stop');
    await this.#check();
    await this.world.settle();
    await this.#check();
    expect(await leaks(this.disk, this.world)).toEqual([]);
    await this.atEnd();
    await this.#deleteAll(life.length);
    expect(await objectFiles(this.disk)).toEqual([]);
    expect(await this.world.directory.all()).toEqual([]);
    await this.world.stop();
  }

  async #check(): Promise<void> {
    expect(await this.model.compare(this.world)).toEqual([]);
  }

  async #step(step: Step): Promise<void> {
    const { world, model } = this;
    const { a, b, c } = step;
    if (step.kind === 'stop' || step.kind === 'kill' || step.kind === 'power-cut') {
      return this.#restart(step.kind);
    }
    if (step.kind === 'settle') return world.settle();
    const snapshot = model.snapshots[a % model.snapshots.length];
    if (step.kind === 'clone') {
      if (snapshot === undefined || model.names.length > 4) return;
      const [name = '', tag = ''] = snapshot.split('@');
      const target = this.#name();
      await world.volumes.clone({ name, snapshot: tag }, target);
      return model.clone(snapshot, target);
    }
    if (step.kind === 'rollback') {
      if (snapshot === undefined) return;
      const [name = '', tag = ''] = snapshot.split('@');
      await world.leave(name);
      await world.volumes.rollback(name, tag);
      return model.rollback(name, tag);
    }
    if (step.kind === 'delete') {
      const all = [...model.names, ...model.snapshots];
      const name = all[a % all.length];
      if (name !== undefined && all.length > 1) await this.#delete(name, b % 2 === 0);
      return;
    }
    const name = model.names[a % model.names.length];
    if (name === undefined) return;
    if (step.kind === 'snapshot') {
      if (model.snapshots.length > 5) return;
      const tag = this.#name();
      await world.volumes.snapshot(name, tag);
      return model.snapshot(name, tag);
    }
    if (step.kind === 'resize') {
      const blocks = 1 + (b % (5 * OBJECT_BLOCKS));
      if (blocks < model.of(name).length) await world.leave(name);
      await world.volumes.resize(name, blocks * BLOCK_BYTES, { dryRun: false });
      model.resize(name, blocks);
      return world.leave(name); // who is to see the new size connects anew
    }
    if (!['write', 'zero', 'trim', 'trim-objects'].includes(step.kind)) return this.other(step);
    await this.#change(step, name, await world.device(name), c);
  }

  async #change(step: Step, name: string, device: BlockDevice, c: number): Promise<void> {
    const size = this.model.of(name).length;
    if (step.kind === 'trim-objects') {
      const first = (step.b % Math.ceil(size / OBJECT_BLOCKS)) * OBJECT_BLOCKS;
      const count = Math.min(size - first, OBJECT_BLOCKS * (1 + (c % 2)));
      await device.trim(first * BLOCK_BYTES, count * BLOCK_BYTES, { durable: false });
      return this.model.fill(name, first, count, 0);
    }
    // Near the borders of objects, where several steps meet the same blocks.
    const near = (step.b % 5) * OBJECT_BLOCKS + ((step.b >> 4) % 12) - 6;
    const first = Math.max(0, Math.min(size - 1, near));
    const count = Math.min(size - first, 1 + (c % 9));
    if (step.kind === 'write') {
      this.#value += 1;
      return write(this.world, this.model, name, { first, count, value: this.#value });
    }
    const [at, length] = [first * BLOCK_BYTES, count * BLOCK_BYTES];
    const keepAllocated = c % 2 === 0;
    if (step.kind === 'trim') await device.trim(at, length, { durable: false });
    else await device.writeZeroes(at, length, { durable: false, keepAllocated, fastOnly: false });
    this.model.fill(name, first, count, 0);
  }

  /** @returns how to have its objects removed, if that was not done at once */
  async #delete(exported: string, settle: boolean): Promise<() => Promise<void>> {
    const [name = '', snapshot] = exported.split('@');
    await this.world.leave(exported);
    const what = { dryRun: false, ...(snapshot !== undefined && { snapshot }) };
    const record = await this.world.volumes.delete(name, what);
    this.model.delete(exported);
    const finish = () => this.world.deletions.finish(record);
    if (settle) await finish();
    return finish;
  }

  /** In an order of its own, some of them with a settling in between. */
  async #deleteAll(seed: number): Promise<void> {
    const unfinished: (() => Promise<void>)[] = [];
    for (let turn = seed; ; turn += 1) {
      const all = [...this.model.names, ...this.model.snapshots];
      const name = all[turn % all.length];
      if (name === undefined) break;
      unfinished.push(await this.#delete(name, turn % 3 > 0));
      await this.#check();
    }
    // Each for itself, as after each command: what one frees of another's is its own to remove.
    for (const finish of unfinished) await finish();
    // What was held of them was released, and nobody has begun to remove it here.
    for (const record of await this.world.directory.deletions()) {
      if (record.state === 'released') await this.world.deletions.finish(record);
    }
  }

  async #restart(kind: 'stop' | 'kill' | 'power-cut'): Promise<void> {
    const { disk, world } = this;
    if (kind === 'stop') await world.stop();
    // What was not flushed may be lost by a power cut, and that is another test's.
    if (kind === 'power-cut') await world.leaveAll();
    this.disk = kind === 'power-cut' ? disk.powerCut('nothing') : disk.kill();
    disk.halt();
    this.world = await this.#open(this.disk);
  }

  #name(): string {
    this.#names += 1;
    return `n${this.#names}`;
  }
}
