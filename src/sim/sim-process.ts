import { type FaultCode, SheepError } from '../base/errors.ts';
import type { Disk, DiskFile } from '../contracts/disk.ts';
import type { FileNode } from './directory-state.ts';
import type { DiskTree, Effect } from './disk-tree.ts';
import { refusal } from './name-tree.ts';

/** What can take time and what can fail; `read` and `write` also stand for the ones at once. */
export type DiskOperation = Exclude<keyof Disk | keyof DiskFile, symbol | `${string}Now`>;

/** Refuses an operation, before it has an effect, by giving an error. */
export type DiskFault = (operation: DiskOperation, path: string) => SheepError | undefined;

/** How long an operation that may wait takes. */
export type DiskDelay = (operation: DiskOperation, path: string) => Promise<void>;

/** The process that uses a simulated disk: what it asks for takes time, fails, or finds it dead. */
export class SimProcess {
  readonly tree: DiskTree;
  fault: DiskFault = () => undefined;
  halted = false;
  readonly #delay: DiskDelay;
  readonly #failures: { operation: DiskOperation; code: FaultCode }[] = [];

  constructor(tree: DiskTree, delay: DiskDelay) {
    this.tree = tree;
    this.#delay = delay;
  }

  failNext(operation: DiskOperation, code: FaultCode): void {
    this.#failures.push({ operation, code });
  }

  /** An effect that takes place at once. */
  now(operation: DiskOperation, path: string, effect: Effect<FileNode>): FileNode | undefined {
    this.check(operation, path);
    return this.tree.now(effect);
  }

  /** An effect that is under way for a while; what happens to it at a cut, the cut decides. */
  async later(
    operation: DiskOperation,
    path: string,
    effect: Effect<FileNode>,
  ): Promise<FileNode | undefined> {
    this.#checkAlive(operation, path);
    const underWay = this.tree.begin(effect);
    await this.#delay(operation, path);
    this.#checkAlive(operation, path);
    const failure = this.#failureOf(operation, path);
    if (failure) {
      this.tree.fail(underWay);
      throw failure;
    }
    return this.tree.settle(underWay);
  }

  /** Time for an operation that changes nothing. */
  async wait(operation: DiskOperation, path: string): Promise<void> {
    this.#checkAlive(operation, path);
    await this.#delay(operation, path);
    this.check(operation, path);
  }

  /** Whether `check` would find nothing wrong. */
  wouldSucceed(operation: DiskOperation, path: string): boolean {
    const failing = this.#failures.some((failure) => failure.operation === operation);
    return !this.halted && !failing && this.fault(operation, path) === undefined;
  }

  check(operation: DiskOperation, path: string): void {
    this.#checkAlive(operation, path);
    const failure = this.#failureOf(operation, path);
    if (failure) throw failure;
  }

  #checkAlive(operation: DiskOperation, path: string): void {
    if (this.halted) throw refusal('ERR_IO', operation, path, 'the process is gone');
  }

  #failureOf(operation: DiskOperation, path: string): SheepError | undefined {
    const index = this.#failures.findIndex((failure) => failure.operation === operation);
    if (index < 0) return this.fault(operation, path);
    const [failure] = this.#failures.splice(index, 1);
    return new SheepError(failure!.code, `cannot ${operation} ${path}: as the test wants`, {
      path,
    });
  }
}
