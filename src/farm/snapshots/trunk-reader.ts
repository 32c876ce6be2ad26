import { isDamage, SheepError } from '../../base/errors.ts';
import type { SnapshotStore } from './store.ts';
import {
  decodeTrunk,
  FANOUT,
  isZeroName,
  nameAt,
  sameName,
  type TrunkShape,
  zeroName,
} from './trunk-format.ts';

/** A tree in a store. */
export interface Trunk {
  /** Name of its root; zeroes: all of the disk reads as zeroes. */
  readonly root: Uint8Array;
  readonly shape: TrunkShape;
}

/** A node, by its name and by where it stands. */
export interface TrunkNode {
  readonly name: Uint8Array;
  readonly level: number;
  /** Which one of its level, from the beginning of the disk. */
  readonly index: number;
}

/** Names of the children of a node; of a leaf: of its slices. */
export async function childrenOf(
  store: SnapshotStore,
  { name, level }: TrunkNode,
  { leafSlices }: TrunkShape,
): Promise<Uint8Array> {
  const count = level === 0 ? leafSlices : FANOUT;
  if (isZeroName(name)) return decodeNothing(count);
  return decodeTrunk(await store.read(name, 'trunk'), level, count, store.format(name));
}

/** The same of a disk that is to be read: what of it is lost with the node is said. */
async function childrenOrLoss(
  store: SnapshotStore,
  node: TrunkNode,
  shape: TrunkShape,
): Promise<Uint8Array> {
  try {
    return await childrenOf(store, node, shape);
  } catch (error) {
    if (!isDamage(error)) throw error;
    const { at, length } = bytesOf(node, shape);
    const message = `bytes ${at} to ${at + length - 1} of the disk are lost: ${error.message}`;
    throw new SheepError(error.code, message, { ...error.facts, at, length }, error);
  }
}

/** Which bytes of the disk a node stands for. */
export function bytesOf({ level, index }: Omit<TrunkNode, 'name'>, shape: TrunkShape) {
  const nodeBytes = FANOUT ** level * shape.leafSlices * shape.sliceBytes;
  const at = index * nodeBytes;
  return { at, length: Math.min(nodeBytes, shape.sizeBytes - at) };
}

/** Finds nodes of a tree by their places, and remembers the way to the last one. */
export class TrunkReader {
  readonly #store: SnapshotStore;
  readonly #trunk: Trunk;
  /** By level: the node read last, and what it names. */
  readonly #path: { index: number; names: Uint8Array }[] = [];

  constructor(store: SnapshotStore, trunk: Trunk) {
    this.#store = store;
    this.#trunk = trunk;
  }

  get shape(): TrunkShape {
    return this.#trunk.shape;
  }

  /** Of the `index`-th node of a level, also of one that a larger disk would have. */
  async nameOf(level: number, index: number): Promise<Uint8Array> {
    const { root, shape } = this.#trunk;
    if (level < shape.rootLevel) {
      return nameAt(await this.namesIn(level + 1, Math.floor(index / FANOUT)), index % FANOUT);
    }
    return level === shape.rootLevel && index === 0 ? root : zeroName();
  }

  /** What the `index`-th node of a level names; kept as it is, and not the caller's to change. */
  async namesIn(level: number, index: number): Promise<Uint8Array> {
    const known = this.#path[level];
    if (known?.index === index) return known.names;
    const names = await this.#read(level, index);
    this.#path[level] = { index, names };
    return names;
  }

  async #read(level: number, index: number): Promise<Uint8Array> {
    const { root, shape } = this.#trunk;
    if (level > shape.rootLevel) {
      // Above the root of a smaller disk: its first child leads to it, all others to zeroes.
      const names = decodeNothing(FANOUT);
      if (index === 0 && level === shape.rootLevel + 1) names.set(root);
      else if (index === 0) names.set(await this.nameOf(level - 1, 0));
      return names;
    }
    const name = await this.nameOf(level, index);
    return childrenOrLoss(this.#store, { name, level, index }, shape);
  }
}

/** A leaf that two trees do not have in common: what each of them names there. */
export interface LeafDifference {
  readonly index: number;
  readonly names: Uint8Array;
  readonly before: Uint8Array;
}

/**
 * Leaves of `trunk` that are not as in `before`, ascending; without it, those that are not zeroes.
 * What both have by the same name is not read. Memory follows the height of the trees.
 */
export async function* differingLeaves(
  store: SnapshotStore,
  trunk: Trunk,
  before?: Trunk,
): AsyncGenerator<LeafDifference> {
  const { shape } = trunk;
  const old = before ?? { root: zeroName(), shape };
  const readers = [new TrunkReader(store, trunk), new TrunkReader(store, old)] as const;
  const walk = async function* (level: number, index: number): AsyncGenerator<LeafDifference> {
    if (index * FANOUT ** level >= shape.leaves) return;
    // Above its root the lower tree has no name to be compared, and all of it is below the first.
    const isAbove = index === 0 && level > Math.min(shape.rootLevel, old.shape.rootLevel);
    const [name, oldName] = [
      await readers[0].nameOf(level, index),
      await readers[1].nameOf(level, index),
    ];
    if (!isAbove && sameName(name, oldName)) return;
    if (level === 0) {
      const names = await childrenOrLoss(store, { name, level, index }, shape);
      const oldNode = { name: oldName, level, index };
      yield { index, names, before: await childrenOrLoss(store, oldNode, shape) };
      return;
    }
    for (let child = 0; child < FANOUT; child += 1) yield* walk(level - 1, index * FANOUT + child);
  };
  yield* walk(Math.max(shape.rootLevel, old.shape.rootLevel), 0);
}

function decodeNothing(count: number): Uint8Array {
  return new Uint8Array(count * zeroName().length);
}
