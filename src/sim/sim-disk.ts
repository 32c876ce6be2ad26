import { assert } from '../base/assert.ts';
import type { FaultCode } from '../base/errors.ts';
import type { Permissions } from '../base/secret-file.ts';
import { BLOCK_BYTES, TiB } from '../base/units.ts';
import type { Disk, DiskFile, OpenMode } from '../contracts/disk.ts';
import type { FileNode } from './directory-state.ts';
import { DiskTree } from './disk-tree.ts';
import type { Survival } from './fate.ts';
import { NameTree, refusal } from './name-tree.ts';
import { SimFile } from './sim-file.ts';
import { type DiskDelay, type DiskFault, type DiskOperation, SimProcess } from './sim-process.ts';

export interface SimDiskOptions {
  /** 1 TiB if not given. */
  readonly totalBytes?: number;
  /** Directories that are there from the start and survive. */
  readonly directories?: readonly string[];
  /** Something else for each boot. */
  readonly bootId?: string;
  /** A later microtask if not given. */
  readonly delay?: DiskDelay;
  /** Whether `readNow` finds everything in the page cache; always if not given. */
  readonly cached?: (path: string) => boolean;
}

/** What cuts can be taken of; it stays as it is, so that many can be taken of one state. */
export interface Cuttable {
  /** The disk that the machine finds when it has power again: nothing open, another boot id. */
  powerCut(survival: Survival): SimDisk;
  /** The disk that the next process finds on the same boot. */
  kill(survival?: Survival): SimDisk;
}

/** A disk in memory that survives what its contract promises and, if a cut wills it, no more. */
export class SimDisk implements Disk, Cuttable {
  /** The file system itself, for a log that is replayed onto it. */
  readonly tree: DiskTree;
  readonly #options: SimDiskOptions;
  readonly #bootId: string;
  readonly #process: SimProcess;
  readonly #locks = new Set<FileNode>();

  constructor(options: SimDiskOptions = {}, found?: DiskTree) {
    this.#options = options;
    this.#bootId = options.bootId ?? 'boot';
    this.tree = found ?? emptyTree(options);
    this.#process = new SimProcess(this.tree, options.delay ?? aMicrotask);
  }

  /** Asks `fault` before each operation from now on. */
  injectFaults(fault: DiskFault): void {
    this.#process.fault = fault;
  }
  /** The next operation of this kind fails, on whatever path. */
  failNext(operation: DiskOperation, code: FaultCode): void {
    this.#process.failNext(operation, code);
  }
  /** The medium turns one bit of the byte at `at` over. */
  flipBit(path: string, at: number, bit: number): void {
    const node = this.tree.names.find('flip a bit of', path);
    assert(node?.kind === 'file', `${path} is a file`);
    assert(at < node.bytes.sizeBytes && bit < 8, 'the bit is inside the file');
    node.bytes.flipBit(at, bit);
  }
  /** The process is gone: whatever it still asks for, also through its files, is refused. */
  halt(): void {
    this.#process.halted = true;
  }

  powerCut(survival: Survival): SimDisk {
    const bootId = `${this.#bootId}+`;
    return new SimDisk({ ...this.#options, bootId }, this.tree.powerCut(survival));
  }
  kill(survival: Survival = 'everything'): SimDisk {
    return new SimDisk(this.#options, this.tree.fork(survival));
  }

  async open(path: string, mode: OpenMode = {}): Promise<DiskFile> {
    checkMode(mode);
    const file = await this.#process.later('open', path, { kind: 'open', path, mode });
    return this.#handle(opened(file), path);
  }
  openCachedNow(path: string): DiskFile | undefined {
    const cached = this.#options.cached ?? always;
    if (!cached(path) || !this.#process.wouldSucceed('open', path)) return undefined;
    const node = this.tree.names.find('open', path);
    return node?.kind === 'file' ? this.#handle(node, path) : undefined;
  }
  async rename(from: string, to: string): Promise<void> {
    await this.#process.later('rename', from, { kind: 'rename', from, to });
  }
  async remove(path: string): Promise<void> {
    await this.#process.later('remove', path, { kind: 'remove', path });
  }
  async makeDirectory(path: string): Promise<void> {
    await this.#process.later('makeDirectory', path, { kind: 'makeDirectory', path });
  }
  async syncDirectory(path: string): Promise<void> {
    await this.#process.later('syncDirectory', path, { kind: 'syncDirectory', path });
  }
  async syncAll(path: string): Promise<void> {
    await this.#process.later('syncAll', path, { kind: 'syncAll', path });
  }

  async list(path: string): Promise<string[]> {
    await this.#process.wait('list', path);
    const node = this.tree.names.find('list', path);
    if (node?.kind === 'file') throw refusal('ERR_IO', 'list', path, 'ENOTDIR');
    return node ? [...node.live.keys()].toSorted() : [];
  }
  async exists(path: string): Promise<boolean> {
    await this.#process.wait('exists', path);
    return this.tree.names.find('find', path) !== undefined;
  }
  /** One user alone has files here. */
  async permissions(path: string): Promise<Permissions> {
    await this.#process.wait('permissions', path);
    this.tree.names.existing('look at', path);
    return { mode: 0o600, uid: 1000, own: true };
  }
  async space(path: string): Promise<{ totalBytes: number; freeBytes: number }> {
    await this.#process.wait('space', path);
    this.tree.names.existing('measure', path);
    const { totalBlocks, usedBlocks } = this.tree.names.room;
    const freeBlocks = Math.max(0, totalBlocks - usedBlocks);
    return { totalBytes: totalBlocks * BLOCK_BYTES, freeBytes: freeBlocks * BLOCK_BYTES };
  }
  async bootId(): Promise<string> {
    await this.#process.wait('bootId', '/');
    return this.#bootId;
  }

  async lock(path: string): Promise<AsyncDisposable> {
    const mode = { create: true };
    const file = opened(await this.#process.later('lock', path, { kind: 'open', path, mode }));
    const handle = this.#handle(file, path);
    if (this.#locks.has(file)) {
      handle.closeNow();
      throw refusal('ERR_BUSY', 'lock', path, 'EAGAIN');
    }
    this.#locks.add(file);
    const held = new AsyncDisposableStack();
    held.use(handle);
    held.defer(() => void this.#locks.delete(file));
    return held;
  }

  #handle(file: FileNode, path: string): SimFile {
    return new SimFile(this.#process, file, path, this.#options.cached ?? always);
  }
}

const always = () => true;
const aMicrotask = () => Promise.resolve();

function opened(file: FileNode | undefined): FileNode {
  assert(file !== undefined, 'an open gives a file');
  return file;
}

function checkMode({ create, exclusive }: OpenMode): void {
  assert(create || !exclusive, 'only what is created can be exclusive');
}

function emptyTree({ totalBytes = TiB, directories = [] }: SimDiskOptions): DiskTree {
  const tree = new DiskTree(new NameTree(Math.floor(totalBytes / BLOCK_BYTES)));
  for (const path of directories) tree.now({ kind: 'makeDirectory', path });
  tree.now({ kind: 'syncAll', path: '/' });
  return tree;
}
