import { NAME_BYTES } from '../../base/content.ts';
import { TrunkBuilder } from './trunk-builder.ts';
import type { TrunkShape } from './trunk-format.ts';
import type { TrunkReader } from './trunk-reader.ts';
import type { StoreWriter } from './writer.ts';

/** Gathers names of slices, in the order of the disk, to leaves; what is not given is as in `base`. */
export class LeafAssembler {
  readonly #shape: TrunkShape;
  readonly #base: TrunkReader | undefined;
  readonly #builder: TrunkBuilder;
  #leaf: { readonly index: number; readonly names: Uint8Array } | undefined;

  constructor(writer: StoreWriter, shape: TrunkShape, base?: TrunkReader) {
    this.#shape = shape;
    this.#base = base;
    this.#builder = new TrunkBuilder(writer, shape, base);
  }

  /** @param names  of the slices from `first` on, one behind the other */
  async setNames(first: number, names: Uint8Array): Promise<void> {
    const { leafSlices } = this.#shape;
    const end = first + names.length / NAME_BYTES;
    for (let slice = first; slice < end; ) {
      const leaf = await this.#at(Math.floor(slice / leafSlices));
      const until = Math.min(end, (leaf.index + 1) * leafSlices);
      const part = names.subarray((slice - first) * NAME_BYTES, (until - first) * NAME_BYTES);
      leaf.names.set(part, (slice % leafSlices) * NAME_BYTES);
      slice = until;
    }
  }

  /** Slices `first` to `end - 1` are zeroes. */
  async setZeroes(first: number, end: number): Promise<void> {
    // Without a base they are that already.
    if (this.#base === undefined) return;
    const { leafSlices } = this.#shape;
    for (let slice = first; slice < end; ) {
      const leaf = await this.#at(Math.floor(slice / leafSlices));
      const until = Math.min(end, (leaf.index + 1) * leafSlices);
      const from = slice - leaf.index * leafSlices;
      leaf.names.fill(0, from * NAME_BYTES, (from + until - slice) * NAME_BYTES);
      slice = until;
    }
  }

  /** @returns the name of the root */
  async finish(): Promise<Uint8Array> {
    await this.#close();
    return this.#builder.finish();
  }

  async #at(index: number) {
    if (this.#leaf?.index === index) return this.#leaf;
    await this.#close();
    const { leafSlices, sizeBytes, sliceBytes } = this.#shape;
    const before = await this.#base?.namesIn(0, index);
    const names = before?.slice() ?? new Uint8Array(leafSlices * NAME_BYTES);
    // What a larger base had behind the end of this disk.
    const slices = Math.ceil(sizeBytes / sliceBytes) - index * leafSlices;
    if (slices < leafSlices) names.fill(0, slices * NAME_BYTES);
    this.#leaf = { index, names };
    return this.#leaf;
  }

  async #close(): Promise<void> {
    const leaf = this.#leaf;
    this.#leaf = undefined;
    if (leaf !== undefined) await this.#builder.setLeaf(leaf.index, leaf.names);
  }
}
