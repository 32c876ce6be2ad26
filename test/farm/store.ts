import { isFault } from '../../src/base/errors.ts';
import { KIND, type Kind, type ObjectName, slotOf } from '../../src/base/ids.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES, KiB } from '../../src/base/units.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { ObjectStore, ObjectWriteCall } from '../../src/contracts/object-store.ts';
import type { Farm } from '../../src/farm/farm.ts';
import type { FarmLimits } from '../../src/farm/limits.ts';
import { objectPath } from '../../src/farm/object-format.ts';
import { openFarm } from '../../src/farm/open-farm.ts';
import type { Survival } from '../../src/sim/fate.ts';
import { SimDisk, type SimDiskOptions } from '../../src/sim/sim-disk.ts';
import { World } from '../../src/sim/world.ts';
import { SMALL_LIMITS } from '../crash/disk-world.ts';

export const DIRECTORY = '/store';
export const OBJECT_BYTES = 32 * KiB;
/** One stamp for one owner: writes under the very same go ahead without being listed again. */
const STAMP = Object.freeze({ epoch: 1, attachEpoch: 1 });
export const PLAIN: ObjectWriteCall = { stamp: STAMP, durable: false };
export const DURABLE: ObjectWriteCall = { stamp: STAMP, durable: true };
export const CREATE: ObjectWriteCall = { ...PLAIN, createBytes: OBJECT_BYTES };
export const ZERO = { ...PLAIN, keepAllocated: false };

export function nameOf(index: number, vid = 5, kind: Kind = KIND.data): ObjectName {
  return { kind, vid, index, slot: slotOf(vid, index) };
}

/** Where the object's file lies in the store of a test. */
export const pathOf = (name: ObjectName) => objectPath(DIRECTORY, name);

export const blocks = (count: number, value: number) =>
  new Uint8Array(count * BLOCK_BYTES).fill(value);

export async function read(store: ObjectStore, name: ObjectName, at: number, length: number) {
  const into = new Uint8Array(length).fill(0xee);
  await store.read(name, at, into);
  return into;
}

/** The value each block is full of, or a question mark. */
export async function values(store: ObjectStore, name: ObjectName, count = 8): Promise<string> {
  const bytes = await read(store, name, 0, count * BLOCK_BYTES);
  return Array.from({ length: count }, (_, index) => {
    const block = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    return block.every((byte) => byte === block[0]) ? block[0] : '?';
  }).join(' ');
}

/** The code with which it fails, at once or later. */
export async function codeOf(run: () => unknown): Promise<string> {
  const error = await failureOf(run);
  return error === undefined ? 'none' : String((error as { code?: unknown }).code ?? error);
}

export async function failureOf(run: () => unknown): Promise<unknown> {
  try {
    await run();
    return undefined;
  } catch (error) {
    return error;
  }
}

export interface StoreOptions {
  readonly limits?: FarmLimits;
  readonly checksums?: boolean;
  readonly log?: Log;
  readonly disk?: SimDiskOptions;
  /** Puts something between the store and its disk. */
  readonly wrap?: (disk: SimDisk) => Disk;
}

let opened = 0;

/** Opens a store in which time stands still: rounds of maintenance are the test's to ask for. */
export function openStore(
  disk: Disk,
  directory: string,
  { limits = SMALL_LIMITS, checksums = true, log = silentLog }: StoreOptions = {},
): Promise<Farm> {
  opened += 1;
  const { clock, random } = new World(opened);
  return openFarm({ directory, disk, clock, random, log, checksums, limits });
}

/** A store on a simulated disk, to be stopped in every way and opened again. */
export class SimStore {
  readonly #options: StoreOptions;
  disk: SimDisk;
  farm: Farm;

  private constructor(options: StoreOptions, disk: SimDisk, farm: Farm) {
    this.#options = options;
    this.disk = disk;
    this.farm = farm;
  }

  static async open(options: StoreOptions = {}): Promise<SimStore> {
    return SimStore.on(new SimDisk({ directories: [DIRECTORY], ...options.disk }), options);
  }

  /** The store that a disk holds already. */
  static async on(disk: SimDisk, options: StoreOptions = {}): Promise<SimStore> {
    return new SimStore(options, disk, await openOn(disk, options));
  }

  /** The process ends as it should; the next one opens the store. */
  async restart(): Promise<Farm> {
    await this.farm[Symbol.asyncDispose]();
    return this.#next(this.disk.kill());
  }

  async kill(): Promise<Farm> {
    const next = this.disk.kill();
    this.disk.halt();
    return this.#next(next);
  }

  async powerCut(survival: Survival = 'nothing'): Promise<Farm> {
    const next = this.disk.powerCut(survival);
    this.disk.halt();
    return this.#next(next);
  }

  /** As the last stop left it, with `change` done to the disk in between. */
  async #next(disk: SimDisk): Promise<Farm> {
    this.disk = disk;
    this.farm = await openOn(disk, this.#options);
    return this.farm;
  }

  /** Rounds of maintenance, until everything that is at rest has been put away. */
  async rest(rounds = 4): Promise<void> {
    for (let round = 0; round < rounds; round += 1) await this.farm.maintain();
  }
}

function openOn(disk: SimDisk, options: StoreOptions): Promise<Farm> {
  return openStore(options.wrap?.(disk) ?? disk, DIRECTORY, options);
}

/** A whole file of a disk. */
export async function contents(disk: Disk, path: string): Promise<Uint8Array<ArrayBuffer>> {
  await using file = await disk.open(path);
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  return bytes;
}

export async function overwrite(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  await using file = await disk.open(path, { create: true, truncate: true });
  await file.write(0, bytes);
  await file.sync();
}

/** Every file below a folder, with its bytes: to see that nothing was touched. */
export async function everything(disk: Disk, folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of await disk.list(folder)) {
    const path = `${folder}/${name}`;
    const inside = await disk.list(path).catch((error: unknown) => {
      if (isFault(error, 'ERR_IO')) return undefined;
      throw error;
    });
    if (inside === undefined) {
      found.set(path, Buffer.from(await contents(disk, path)).toString('base64'));
    } else for (const [below, bytes] of await everything(disk, path)) found.set(below, bytes);
  }
  return found;
}
