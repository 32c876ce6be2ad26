import { type FaultCode, SheepError } from '../base/errors.ts';
import type { OpenMode } from '../contracts/disk.ts';
import { DirectoryState, type FileNode, type Node } from './directory-state.ts';
import { FileState, Room } from './file-state.ts';

/**
 * The directories and files of one simulated file system, by their names; refusals are those that
 * Linux gives. `change` numbers what a cut may take back.
 */
export class NameTree {
  readonly room: Room;
  readonly #root = new DirectoryState();

  constructor(totalBlocks: number) {
    this.room = new Room(totalBlocks);
  }

  /** What `path` names; undefined if the last name in it, or one on the way, is not there. */
  find(operation: string, path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of namesOf(path)) {
      if (node?.kind === 'file') throw refusal('ERR_IO', operation, path, 'ENOTDIR');
      node = node?.live.get(name);
    }
    return node;
  }

  existing(operation: string, path: string): Node {
    const node = this.find(operation, path);
    if (!node) throw refusal('ERR_NOT_FOUND', operation, path, 'ENOENT');
    return node;
  }

  directory(operation: string, path: string): DirectoryState {
    const node = this.existing(operation, path);
    if (node.kind === 'file') throw refusal('ERR_IO', operation, path, 'ENOTDIR');
    return node;
  }

  /** Gives a file with one handle more. */
  open(path: string, mode: OpenMode, change: number): FileNode {
    const [directory, name] = this.#place('open', path);
    let node = directory.live.get(name);
    if (node && mode.exclusive) throw refusal('ERR_EXISTS', 'open', path, 'EEXIST');
    if (node?.kind === 'directory') throw refusal('ERR_IO', 'open', path, 'EISDIR');
    if (!node) {
      if (!mode.create) throw refusal('ERR_NOT_FOUND', 'open', path, 'ENOENT');
      node = { kind: 'file', bytes: new FileState(this.room), links: 1, handles: 0 };
      directory.change(change, [name, node]);
    } else if (mode.truncate) node.bytes.truncate(0, change);
    node.handles += 1;
    return node;
  }

  /** One handle less: without handles and names its space is free. */
  letGo(file: FileNode): void {
    file.handles -= 1;
    this.#dropIfUnused(file);
  }

  rename(from: string, to: string, change: number): void {
    const refuse = (errno: string) => refusal('ERR_IO', 'rename', from, errno);
    const [source, oldName] = this.#place('rename', from);
    const [target, newName] = this.#place('rename', to);
    const node = source.live.get(oldName);
    if (!node) throw refusal('ERR_NOT_FOUND', 'rename', from, 'ENOENT');
    const replaced = target.live.get(newName);
    if (replaced === node) return;
    if (node.kind === 'directory' && isWithin(node, target)) throw refuse('EINVAL');
    if (replaced && replaced.kind !== node.kind) {
      throw refuse(node.kind === 'file' ? 'EISDIR' : 'ENOTDIR');
    }
    if (replaced?.kind === 'directory' && replaced.live.size > 0) throw refuse('ENOTEMPTY');
    if (source === target) source.change(change, [oldName, undefined], [newName, node]);
    else {
      source.change(change, [oldName, undefined]);
      target.change(change, [newName, node]);
    }
    if (replaced?.kind === 'file') this.#unlink(replaced);
  }

  remove(path: string, change: number): void {
    const [directory, name] = this.#place('remove', path);
    const node = directory.live.get(name);
    if (!node) throw refusal('ERR_NOT_FOUND', 'remove', path, 'ENOENT');
    if (node.kind === 'directory') throw refusal('ERR_IO', 'remove', path, 'EISDIR');
    directory.change(change, [name, undefined]);
    this.#unlink(node);
  }

  makeDirectory(path: string, change: number): void {
    let directory = this.#root;
    const names = namesOf(path);
    for (const [index, name] of names.entries()) {
      const node = directory.live.get(name) ?? new DirectoryState();
      if (node.kind === 'file') {
        throw index === names.length - 1
          ? refusal('ERR_EXISTS', 'make directory', path, 'EEXIST')
          : refusal('ERR_IO', 'make directory', path, 'ENOTDIR');
      }
      if (!directory.live.has(name)) directory.change(change, [name, node]);
      directory = node;
    }
  }

  /** Every node that has a name, once, a directory before what is in it. */
  each(visit: (node: Node) => void): void {
    const seen = new Set<Node>();
    const follow = (node: Node): void => {
      if (seen.has(node)) return;
      seen.add(node);
      visit(node);
      if (node.kind === 'directory') for (const inner of node.live.values()) follow(inner);
    };
    follow(this.#root);
  }

  /** The same on another disk, nothing open, and who is who there. */
  fork(): { readonly twin: NameTree; readonly counterparts: ReadonlyMap<Node, Node> } {
    const twin = new NameTree(this.room.totalBlocks);
    const counterparts = new Map<Node, Node>([[this.#root, twin.#root]]);
    const counterpart = (node: Node): Node => {
      const known = counterparts.get(node);
      if (known) return known;
      if (node.kind === 'file') {
        const file = { ...node, bytes: node.bytes.fork(twin.room), links: 0, handles: 0 };
        counterparts.set(node, file);
        return file;
      }
      const directory = new DirectoryState();
      counterparts.set(node, directory);
      node.copyTo(directory, counterpart);
      return directory;
    };
    this.#root.copyTo(twin.#root, counterpart);
    twin.recount();
    return { twin, counterparts };
  }

  /** Counts links and space anew, for nothing is open. */
  recount(): void {
    this.room.usedBlocks = 0;
    this.each((node) => {
      if (node.kind === 'directory') return;
      node.links = 0;
      this.room.usedBlocks += node.bytes.allocatedBlocks;
    });
    this.each((node) => {
      if (node.kind === 'file') return;
      for (const inner of node.live.values()) if (inner.kind === 'file') inner.links += 1;
    });
  }

  /** The directory that holds the last name of `path`, and that name. */
  #place(operation: string, path: string): [DirectoryState, string] {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined) throw refusal('ERR_IO', operation, path, 'EISDIR');
    const directory = this.find(operation, names.join('/'));
    if (!directory) throw refusal('ERR_NOT_FOUND', operation, path, 'ENOENT');
    if (directory.kind === 'file') throw refusal('ERR_IO', operation, path, 'ENOTDIR');
    return [directory, name];
  }

  #unlink(file: FileNode): void {
    file.links -= 1;
    this.#dropIfUnused(file);
  }

  #dropIfUnused(file: FileNode): void {
    if (file.links === 0 && file.handles === 0) {
      this.room.usedBlocks -= file.bytes.allocatedBlocks;
    }
  }
}

/** A refusal as the operating system would give it. */
export function refusal(
  code: FaultCode,
  operation: string,
  path: string,
  errno: string,
): SheepError {
  return new SheepError(code, `cannot ${operation} ${path}: ${errno}`, { path, errno });
}

/** Relative paths begin at the root: a simulated process works there. */
function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function isWithin(outer: DirectoryState, inner: DirectoryState): boolean {
  if (outer === inner) return true;
  return [...outer.live.values()].some(
    (node) => node.kind === 'directory' && isWithin(node, inner),
  );
}
