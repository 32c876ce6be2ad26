import * as fs from 'node:fs';
import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice, Described, Extent } from '../../src/contracts/block-device.ts';
import type { Completion, WriteCall } from '../../src/contracts/call.ts';

/** A call of the device, as tests see it. */
export interface DeviceCall {
  readonly name:
    | 'read'
    | 'write'
    | 'flush'
    | 'trim'
    | 'writeZeroes'
    | 'extents'
    | 'describe'
    | 'prefetch';
  readonly context?: string;
  readonly at: number;
  readonly length: number;
  readonly durable?: boolean;
  readonly flushFollows?: boolean;
}

export interface FileDeviceOptions {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly?: boolean;
  readonly description?: string;
  /** Metadata contexts besides base:allocation: the flags of each block. */
  readonly contexts?: Readonly<Record<string, (block: number) => number>>;
  /** Called before each operation. A promise makes it wait; a throw or a rejection makes it fail. */
  readonly before?: (call: DeviceCall) => Completion;
}

/**
 * One plain file as a BlockDevice, without checksums: for tests of the server alone. Holes are kept
 * block by block in memory, because Node cannot ask a file for them.
 */
export class FileDevice implements BlockDevice {
  readonly info: BlockDevice['info'];
  readonly #fd: number;
  readonly #contexts: Readonly<Record<string, (block: number) => number>>;
  readonly #before: ((call: DeviceCall) => Completion) | undefined;
  /** Of each block: it has been written since it was last zeroed. */
  readonly #written: Uint8Array;
  closed = false;

  constructor(options: FileDeviceOptions) {
    const { path, sizeBytes, readOnly = false, description = '' } = options;
    this.#contexts = options.contexts ?? {};
    this.info = { sizeBytes, readOnly, description, contexts: Object.keys(this.#contexts) };
    this.#fd = fs.openSync(path, fs.existsSync(path) ? 'r+' : 'w+');
    if (fs.fstatSync(this.#fd).size < sizeBytes) fs.ftruncateSync(this.#fd, sizeBytes);
    this.#written = new Uint8Array(Math.ceil(sizeBytes / BLOCK_BYTES));
    if (fs.fstatSync(this.#fd).blocks > 0) this.#written.fill(1);
    this.#before = options.before;
  }

  read(at: number, into: Uint8Array): Completion {
    if (this.#before === undefined) return void fs.readSync(this.#fd, into, 0, into.length, at);
    return this.#run({ name: 'read', at, length: into.length }, () => {
      fs.readSync(this.#fd, into, 0, into.length, at);
    });
  }

  write(at: number, from: Uint8Array, call: WriteCall): Completion {
    if (this.#before === undefined && !call.durable) return this.#writeNow(at, from);
    const { durable, flushFollows } = call;
    const more = flushFollows === true ? { flushFollows } : {};
    return this.#run({ name: 'write', at, length: from.length, durable, ...more }, () => {
      this.#writeNow(at, from);
      return durable ? sync(this.#fd) : undefined;
    });
  }

  flush(call?: { range?: { at: number; length: number } }): Completion {
    const { at, length } = call?.range ?? { at: 0, length: this.info.sizeBytes };
    return this.#run({ name: 'flush', at, length }, () => sync(this.#fd));
  }

  trim(at: number, length: number, { durable }: { durable: boolean }): Completion {
    return this.#run({ name: 'trim', at, length, durable }, () => {
      this.#refuseReadOnly();
      const from = Math.ceil(at / BLOCK_BYTES) * BLOCK_BYTES;
      const whole = at + length === this.info.sizeBytes ? length + at : floorBlock(at + length);
      if (whole > from) this.#zero(from, whole - from);
      return durable ? sync(this.#fd) : undefined;
    });
  }

  writeZeroes(
    at: number,
    length: number,
    call: { durable: boolean; keepAllocated: boolean; fastOnly: boolean },
  ): Completion {
    const { durable } = call;
    return this.#run({ name: 'writeZeroes', at, length, durable }, () => {
      this.#refuseReadOnly();
      if (call.fastOnly && (at % BLOCK_BYTES !== 0 || length % BLOCK_BYTES !== 0)) {
        throw new SheepError('ERR_NOT_FAST', 'parts of blocks have to be read first');
      }
      this.#zero(at, length);
      if (call.keepAllocated) this.#mark(at, length, 1);
      return durable ? sync(this.#fd) : undefined;
    });
  }

  extents(at: number, length: number, countMax: number): Extent[] | Promise<Extent[]> {
    let found: Extent[] = [];
    const waiting = this.#run({ name: 'extents', at, length }, () => {
      found = this.#extentsNow(at, length, countMax);
    });
    return waiting === undefined ? found : waiting.then(() => found);
  }

  async describe(
    context: string,
    at: number,
    length: number,
    countMax: number,
  ): Promise<Described[]> {
    await this.#run({ name: 'describe', at, length, context }, () => undefined);
    const flagsOf = this.#contexts[context];
    if (flagsOf === undefined) throw new SheepError('ERR_NOT_FOUND', `no context ${context}`);
    const runs = blockRuns(at, length, countMax, flagsOf);
    return runs.map((run) => ({ length: run.length, flags: run.value }));
  }

  zeroNow(at: number, length: number): boolean {
    const from = Math.floor(at / BLOCK_BYTES);
    const to = Math.ceil((at + length) / BLOCK_BYTES);
    return this.#written.subarray(from, to).indexOf(1) < 0;
  }

  prefetch(at: number, length: number): Completion {
    return this.#run({ name: 'prefetch', at, length }, () => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closed = true;
    fs.closeSync(this.#fd);
  }

  /** Runs `work` once the hook lets it; at once if there is none or it does not wait. */
  #run(call: DeviceCall, work: () => Completion): Completion {
    const waiting = this.#before?.(call);
    return waiting === undefined ? work() : waiting.then(work);
  }

  #writeNow(at: number, from: Uint8Array): void {
    this.#refuseReadOnly();
    fs.writeSync(this.#fd, from, 0, from.length, at);
    this.#mark(at, from.length, 1);
  }
  #zero(at: number, length: number): void {
    const zeroes = new Uint8Array(Math.min(length, 1 << 20));
    for (let done = 0; done < length; done += zeroes.length) {
      fs.writeSync(this.#fd, zeroes, 0, Math.min(zeroes.length, length - done), at + done);
    }
    const from = Math.ceil(at / BLOCK_BYTES) * BLOCK_BYTES;
    const end = at + length === this.info.sizeBytes ? at + length : floorBlock(at + length);
    if (end > from) this.#mark(from, end - from, 0);
  }
  #mark(at: number, length: number, value: 0 | 1): void {
    const from = Math.floor(at / BLOCK_BYTES);
    const to = Math.floor((at + length - 1) / BLOCK_BYTES);
    if (from === to) this.#written[from] = value;
    else this.#written.fill(value, from, to + 1);
  }
  #refuseReadOnly(): void {
    if (this.info.readOnly) throw new SheepError('ERR_READ_ONLY', 'the device is read-only');
  }

  #extentsNow(at: number, length: number, countMax: number): Extent[] {
    const runs = blockRuns(at, length, countMax, (block) => this.#written[block] === 0);
    return runs.map((run) => ({ length: run.length, hole: run.value, zero: run.value }));
  }
}

/** The blocks of a range, those that follow each other with one value together. */
function blockRuns<T>(
  at: number,
  length: number,
  countMax: number,
  valueAt: (block: number) => T,
): { length: number; value: T }[] {
  const found: { length: number; value: T }[] = [];
  for (let from = at; from < at + length; ) {
    const to = Math.min(at + length, floorBlock(from) + BLOCK_BYTES);
    const value = valueAt(Math.floor(from / BLOCK_BYTES));
    const last = found.at(-1);
    if (last?.value === value) last.length += to - from;
    else if (found.length === countMax) break;
    else found.push({ length: to - from, value });
    from = to;
  }
  return found;
}

function sync(fd: number): Promise<void> {
  return new Promise((done, fail) => fs.fdatasync(fd, (error) => (error ? fail(error) : done())));
}
function floorBlock(at: number): number {
  return Math.floor(at / BLOCK_BYTES) * BLOCK_BYTES;
}
