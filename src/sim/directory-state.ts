import type { Fate } from './fate.ts';
import type { FileState } from './file-state.ts';

/** An inode: what a name stands for. */
export type Node = FileNode | DirectoryState;

export interface FileNode {
  readonly kind: 'file';
  readonly bytes: FileState;
  /** Names that readers see. A file without any goes when its last handle does. */
  links: number;
  handles: number;
}

/** A change to one name, or a rename: to two names that change together. */
interface NameChange {
  readonly change: number;
  readonly names: readonly NewMeaning[];
}
export type NewMeaning = readonly [name: string, node: Node | undefined];

/** The names in one directory: what readers see, what is certain, and the changes between. */
export class DirectoryState {
  readonly kind = 'directory';
  readonly live = new Map<string, Node>();
  readonly #certain = new Map<string, Node>();
  #unsynced: NameChange[] = [];

  change(change: number, ...names: NewMeaning[]): void {
    apply(names, this.live);
    this.#unsynced.push({ change, names });
  }

  /** A sync that covered all changes up to `covered` has settled. */
  synced(covered: number): void {
    const open = this.#unsynced.findIndex(({ change }) => change > covered);
    const done = this.#unsynced.splice(0, open < 0 ? this.#unsynced.length : open);
    for (const { names } of done) apply(names, this.#certain);
  }

  /** Fills an empty directory with the same, every node replaced by its counterpart. */
  copyTo(twin: DirectoryState, counterpart: (node: Node) => Node): void {
    for (const [name, node] of this.#certain) twin.#certain.set(name, counterpart(node));
    for (const [name, node] of this.live) twin.live.set(name, counterpart(node));
    twin.#unsynced = this.#unsynced.map(({ change, names }) => ({
      change,
      names: names.map(([name, node]): NewMeaning => [name, node && counterpart(node)]),
    }));
  }

  /**
   * Falls back to names that a power cut may leave. A name stops at one of its changes and never
   * shows a later one; a rename happens to both its names or to neither.
   */
  fallBack(fate: Fate): void {
    const stopped = new Set<string>();
    for (const { names } of this.#unsynced) {
      const happens = !names.some(([name]) => stopped.has(name)) && fate.happens();
      if (happens) apply(names, this.#certain);
      else for (const [name] of names) stopped.add(name);
    }
    this.#unsynced = [];
    this.live.clear();
    for (const [name, node] of this.#certain) this.live.set(name, node);
  }
}

function apply(names: readonly NewMeaning[], into: Map<string, Node>): void {
  for (const [name, node] of names) {
    if (node) into.set(name, node);
    else into.delete(name);
  }
}
