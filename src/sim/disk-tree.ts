import { unreachable } from '../base/assert.ts';
import { type FaultCode, SheepError } from '../base/errors.ts';
import type { OpenMode } from '../contracts/disk.ts';
import { DirectoryState, type FileNode, type Node } from './directory-state.ts';
import { type Fate, fates, type Survival } from './fate.ts';
import { FileState, Room } from './file-state.ts';

/** What changes a file system or what survives of it; `F` stands for an open file. */
export type Effect<F> =
  | { readonly kind: 'open'; readonly path: string; readonly mode: OpenMode }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'remove' | 'makeDirectory'; readonly path: string }
  | { readonly kind: 'syncDirectory' | 'syncAll'; readonly path: string }
  | { readonly kind: 'sync' | 'close'; readonly file: F }
  | { readonly kind: 'write'; readonly file: F; readonly at: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'punch' | 'zero';
      readonly file: F;
      readonly at: number;
      readonly length: number;
    }
  | { readonly kind: 'truncate'; readonly file: F; readonly sizeBytes: number };

/** An effect that has begun and has not settled. */
export interface UnderWay {
  readonly effect: Effect<FileNode>;
  /** The newest change there was when it began: what a sync covers. */
  readonly covered: number;
}

/** A file system in memory, with the effects under way on it and all it may fall back to. */
export class DiskTree {
  readonly room: Room;
  readonly #root: DirectoryState;
  readonly #underWay = new Set<UnderWay>();
  #change = 0;

  constructor(totalBlocks: number, root = new DirectoryState()) {
    this.room = new Room(totalBlocks);
    this.#root = root;
  }

  begin(effect: Effect<FileNode>): UnderWay {
    const underWay = { effect, covered: this.#change };
    this.#underWay.add(underWay);
    if ('file' in effect) effect.file.handles += 1;
    return underWay;
  }

  /** It takes place now. Answers with the file if it was an open. */
  settle(underWay: UnderWay): FileNode | undefined {
    this.#underWay.delete(underWay);
    const { effect, covered } = underWay;
    try {
      return this.#apply(effect, covered);
    } finally {
      if ('file' in effect) this.#letGo(effect.file);
    }
  }

  /** It is refused. */
  fail(underWay: UnderWay): void {
    this.#underWay.delete(underWay);
    const { effect, covered } = underWay;
    if (effect.kind === 'sync') effect.file.bytes.syncFailed(covered);
    if (effect.kind === 'syncAll') this.#each((node) => failSync(node, covered));
    if ('file' in effect) this.#letGo(effect.file);
  }

  now(effect: Effect<FileNode>): FileNode | undefined {
    return this.settle(this.begin(effect));
  }

  /** What the next process finds; of the effects under way, each block or name may have come. */
  fork(survival: Survival): DiskTree {
    const root = new DirectoryState();
    const twin = new DiskTree(this.room.totalBlocks, root);
    twin.#change = this.#change;
    const counterparts = new Map<Node, Node>([[this.#root, root]]);
    const counterpart = (node: Node): Node => {
      const known = counterparts.get(node);
      if (known) return known;
      const made = node.kind === 'file' ? forkFile(node, twin.room) : new DirectoryState();
      counterparts.set(node, made);
      if (node.kind === 'directory') node.copyTo(made as DirectoryState, counterpart);
      return made;
    };
    this.#root.copyTo(root, counterpart);
    twin.#recount();
    const fate = fates(survival);
    for (const { effect, covered } of this.#underWay) {
      const file = 'file' in effect ? counterparts.get(effect.file) : undefined;
      if (!('file' in effect)) twin.#land(effect, covered, fate());
      else if (file?.kind === 'file') twin.#land({ ...effect, file }, covered, fate());
    }
    return twin;
  }

  /** What the machine finds when it has power again. */
  powerCut(survival: Survival): DiskTree {
    const twin = this.fork(survival);
    const fate = fates(survival);
    // A directory falls back before its names are followed.
    twin.#each((node) => {
      if (node.kind === 'file') node.bytes.fallBack(fate());
      else node.fallBack(fate());
    });
    twin.#recount();
    return twin;
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

  #apply(effect: Effect<FileNode>, covered: number): FileNode | undefined {
    const change = this.#change + 1;
    this.#change = change;
    switch (effect.kind) {
      case 'open':
        return this.#open(effect.path, effect.mode, change);
      case 'rename':
        this.#rename(effect.from, effect.to, change);
        break;
      case 'remove':
        this.#remove(effect.path, change);
        break;
      case 'makeDirectory':
        this.#makeDirectory(effect.path, change);
        break;
      case 'syncDirectory':
        this.#directory('sync directory', effect.path).synced(covered);
        break;
      case 'syncAll':
        this.#existing('sync all of', effect.path);
        this.#each((node) => (node.kind === 'file' ? node.bytes : node).synced(covered));
        break;
      case 'write':
        effect.file.bytes.write(effect.at, effect.bytes, change);
        break;
      case 'punch':
        effect.file.bytes.punch(effect.at, effect.length, change);
        break;
      case 'zero':
        effect.file.bytes.zero(effect.at, effect.length, change);
        break;
      case 'truncate':
        effect.file.bytes.truncate(effect.sizeBytes, change);
        break;
      case 'sync':
        effect.file.bytes.synced(covered);
        break;
      case 'close':
        this.#letGo(effect.file);
        break;
      default:
        unreachable(effect);
    }
    return undefined;
  }

  /** As much of it as fate wills: nobody was told how it ended. */
  #land(effect: Effect<FileNode>, covered: number, fate: Fate): void {
    const change = this.#change + 1;
    try {
      switch (effect.kind) {
        case 'write':
          this.#change = change;
          effect.file.bytes.write(effect.at, effect.bytes, change, () => fate.happens());
          break;
        case 'punch':
        case 'zero':
          this.#change = change;
          effect.file.bytes[effect.kind](effect.at, effect.length, change, () => fate.happens());
          break;
        case 'open':
        case 'rename':
        case 'remove':
        case 'makeDirectory':
        case 'truncate': {
          const opened = fate.happens() ? this.#apply(effect, covered) : undefined;
          if (opened) this.#letGo(opened);
          break;
        }
        default: // A sync that nobody was told of promises nothing.
      }
    } catch (error) {
      if (!(error instanceof SheepError)) throw error;
    }
  }

  #open(path: string, mode: OpenMode, change: number): FileNode {
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

  #rename(from: string, to: string, change: number): void {
    const refuse = (errno: string) => refusal('ERR_IO', 'rename', from, errno);
    const [source, oldName] = this.#place('rename', from);
    const [target, newName] = this.#place('rename', to);
    const node = source.live.get(oldName);
    if (!node) throw refusal('ERR_NOT_FOUND', 'rename', from, 'ENOENT');
    const replaced = target.live.get(newName);
    if (replaced === node) return;
    if (node === target || (node.kind === 'directory' && this.#within(node, target))) {
      throw refuse('EINVAL');
    }
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

  #remove(path: string, change: number): void {
    const [directory, name] = this.#place('remove', path);
    const node = directory.live.get(name);
    if (!node) throw refusal('ERR_NOT_FOUND', 'remove', path, 'ENOENT');
    if (node.kind === 'directory') throw refusal('ERR_IO', 'remove', path, 'EISDIR');
    directory.change(change, [name, undefined]);
    this.#unlink(node);
  }

  #makeDirectory(path: string, change: number): void {
    let directory = this.#root;
    const names = namesOf(path);
    for (const [index, name] of names.entries()) {
      const node = directory.live.get(name) ?? new DirectoryState();
      if (node.kind === 'file') {
        const last = index === names.length - 1;
        throw last
          ? refusal('ERR_EXISTS', 'make directory', path, 'EEXIST')
          : refusal('ERR_IO', 'make directory', path, 'ENOTDIR');
      }
      if (!directory.live.has(name)) directory.change(change, [name, node]);
      directory = node;
    }
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

  #existing(operation: string, path: string): Node {
    const node = this.find(operation, path);
    if (!node) throw refusal('ERR_NOT_FOUND', operation, path, 'ENOENT');
    return node;
  }

  #directory(operation: string, path: string): DirectoryState {
    const node = this.#existing(operation, path);
    if (node.kind === 'file') throw refusal('ERR_IO', operation, path, 'ENOTDIR');
    return node;
  }

  #within(outer: DirectoryState, inner: DirectoryState): boolean {
    return [...outer.live.values()].some(
      (node) => node === inner || (node.kind === 'directory' && this.#within(node, inner)),
    );
  }

  #unlink(file: FileNode): void {
    file.links -= 1;
    this.#dropIfUnused(file);
  }

  #letGo(file: FileNode): void {
    file.handles -= 1;
    this.#dropIfUnused(file);
  }

  #dropIfUnused(file: FileNode): void {
    if (file.links === 0 && file.handles === 0) {
      this.room.usedBlocks -= file.bytes.allocatedBlocks;
    }
  }

  /** Every node that has a name, once, a directory before what is in it. */
  #each(visit: (node: Node) => void): void {
    const seen = new Set<Node>();
    const follow = (node: Node): void => {
      if (seen.has(node)) return;
      seen.add(node);
      visit(node);
      if (node.kind === 'directory') for (const inner of node.live.values()) follow(inner);
    };
    follow(this.#root);
  }

  #recount(): void {
    this.room.usedBlocks = 0;
    this.#each((node) => {
      if (node.kind === 'file') {
        node.links = 0;
        this.room.usedBlocks += node.bytes.allocatedBlocks;
      }
    });
    this.#each((node) => {
      if (node.kind === 'file') return;
      for (const inner of node.live.values()) if (inner.kind === 'file') inner.links += 1;
    });
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

function failSync(node: Node, covered: number): void {
  if (node.kind === 'file') node.bytes.syncFailed(covered);
}

function forkFile(file: FileNode, room: Room): FileNode {
  return { kind: 'file', bytes: file.bytes.fork(room), links: 0, handles: 0 };
}

/** Relative paths begin at the root: a simulated process works there. */
function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}
