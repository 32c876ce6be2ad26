import { unreachable } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { OpenMode } from '../contracts/disk.ts';
import type { FileNode } from './directory-state.ts';
import { type Fate, fates, type Survival } from './fate.ts';
import type { NameTree } from './name-tree.ts';

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
  readonly names: NameTree;
  readonly #underWay = new Set<UnderWay>();
  #change: number;

  constructor(names: NameTree, change = 0) {
    this.names = names;
    this.#change = change;
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
      if ('file' in effect) this.names.letGo(effect.file);
    }
  }

  /** It is refused. */
  fail(underWay: UnderWay): void {
    this.#underWay.delete(underWay);
    const { effect, covered } = underWay;
    if (effect.kind === 'sync') effect.file.bytes.syncFailed(covered);
    if (effect.kind === 'syncAll') {
      this.names.each((node) => node.kind === 'file' && node.bytes.syncFailed(covered));
    }
    if ('file' in effect) this.names.letGo(effect.file);
  }

  now(effect: Effect<FileNode>): FileNode | undefined {
    return this.settle(this.begin(effect));
  }

  /** What the next process finds; of the effects under way, each block or name may have come. */
  fork(survival: Survival): DiskTree {
    const { twin: names, counterparts } = this.names.fork();
    const twin = new DiskTree(names, this.#change);
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
    twin.names.each((node) => (node.kind === 'file' ? node.bytes : node).fallBack(fate()));
    twin.names.recount();
    return twin;
  }

  #apply(effect: Effect<FileNode>, covered: number): FileNode | undefined {
    this.#change += 1;
    const change = this.#change;
    switch (effect.kind) {
      case 'open':
        return this.names.open(effect.path, effect.mode, change);
      case 'rename':
        this.names.rename(effect.from, effect.to, change);
        break;
      case 'remove':
        this.names.remove(effect.path, change);
        break;
      case 'makeDirectory':
        this.names.makeDirectory(effect.path, change);
        break;
      case 'syncDirectory':
        this.names.directory('sync directory', effect.path).synced(covered);
        break;
      case 'syncAll':
        this.names.existing('sync all of', effect.path);
        this.names.each((node) => (node.kind === 'file' ? node.bytes : node).synced(covered));
        break;
      case 'write':
        effect.file.bytes.write(effect.at, effect.bytes, change);
        break;
      case 'punch':
      case 'zero':
        effect.file.bytes[effect.kind](effect.at, effect.length, change);
        break;
      case 'truncate':
        effect.file.bytes.truncate(effect.sizeBytes, change);
        break;
      case 'sync':
        effect.file.bytes.synced(covered);
        break;
      case 'close':
        this.names.letGo(effect.file);
        break;
      default:
        unreachable(effect);
    }
    return undefined;
  }

  /** As much of it as fate wills: nobody was told how it ended. */
  #land(effect: Effect<FileNode>, covered: number, fate: Fate): void {
    const lands = () => fate.happens();
    try {
      switch (effect.kind) {
        case 'write':
          this.#change += 1;
          effect.file.bytes.write(effect.at, effect.bytes, this.#change, lands);
          break;
        case 'punch':
        case 'zero':
          this.#change += 1;
          effect.file.bytes[effect.kind](effect.at, effect.length, this.#change, lands);
          break;
        case 'open':
        case 'rename':
        case 'remove':
        case 'makeDirectory':
        case 'truncate': {
          const opened = lands() ? this.#apply(effect, covered) : undefined;
          if (opened) this.names.letGo(opened);
          break;
        }
        default: // A sync that nobody was told of promises nothing.
      }
    } catch (error) {
      if (!(error instanceof SheepError)) throw error;
    }
  }
}
