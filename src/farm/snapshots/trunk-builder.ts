import { assert } from '../../base/assert.ts';
import { encodeTrunk, FANOUT, nodesOfLevel, type TrunkShape, zeroName } from './trunk-format.ts';
import type { TrunkReader } from './trunk-reader.ts';
import type { StoreWriter } from './writer.ts';

interface OpenNode {
  readonly index: number;
  readonly names: Uint8Array;
}

/**
 * Makes the tree of a disk from leaves in ascending order; what is not given is as in `base`, by the
 * names that it has there, or zeroes. Children are put before what names them. One node of each level
 * is in memory.
 */
export class TrunkBuilder {
  readonly #writer: StoreWriter;
  readonly #shape: TrunkShape;
  readonly #base: TrunkReader | undefined;
  /** By level, from 1. */
  readonly #open: (OpenNode | undefined)[] = [];
  #nextLeaf = 0;
  #rootName: Uint8Array | undefined;

  constructor(writer: StoreWriter, shape: TrunkShape, base?: TrunkReader) {
    this.#writer = writer;
    this.#shape = shape;
    this.#base = base;
  }

  /** @param names  of the slices of this leaf */
  async setLeaf(index: number, names: Uint8Array): Promise<void> {
    assert(index >= this.#nextLeaf && index < this.#shape.leaves, 'leaves come in ascending order');
    this.#nextLeaf = index + 1;
    await this.#set(0, index, await this.#put(0, names));
  }

  /** @returns the name of the root */
  async finish(): Promise<Uint8Array> {
    const { rootLevel, leaves } = this.#shape;
    // A disk that has shrunk or grown ends elsewhere than its base.
    const moved = this.#base !== undefined && this.#base.shape.leaves !== leaves;
    if (moved && rootLevel > 0) await this.#openAt(1, Math.floor((leaves - 1) / FANOUT));
    for (let level = 1; level <= rootLevel; level += 1) await this.#close(level);
    return this.#rootName ?? (await this.#base?.nameOf(rootLevel, 0)) ?? zeroName();
  }

  /** This is the name of a node; the one that names it is told. */
  async #set(level: number, index: number, name: Uint8Array): Promise<void> {
    if (level === this.#shape.rootLevel) {
      this.#rootName = name;
      return;
    }
    const parent = await this.#openAt(level + 1, Math.floor(index / FANOUT));
    parent.names.set(name, (index % FANOUT) * name.length);
  }

  async #openAt(level: number, index: number): Promise<OpenNode> {
    const open = this.#open[level];
    if (open?.index === index) return open;
    await this.#close(level);
    const before = await this.#base?.namesIn(level, index);
    const names = before?.slice() ?? new Uint8Array(FANOUT * zeroName().length);
    // Nodes behind the end of this disk are the base's alone.
    const children = nodesOfLevel(this.#shape, level - 1) - index * FANOUT;
    if (children < FANOUT) names.fill(0, children * zeroName().length);
    const node = { index, names };
    this.#open[level] = node;
    return node;
  }

  async #close(level: number): Promise<void> {
    const open = this.#open[level];
    if (open === undefined) return;
    this.#open[level] = undefined;
    await this.#set(level, open.index, await this.#put(level, open.names));
  }

  async #put(level: number, names: Uint8Array): Promise<Uint8Array> {
    const payload = encodeTrunk(level, names);
    return payload === undefined ? zeroName() : this.#writer.put('trunk', payload);
  }
}
