import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES, KiB } from '../../src/base/units.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import type { DiskOperation } from '../../src/sim/sim-process.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { BlockModel, blockValue, fillBlocks } from '../crash/block-model.ts';
import {
  DISK_BLOCKS,
  type OpenDisk,
  openDisk,
  SMALL_LIMITS,
  violations,
} from '../crash/disk-world.ts';
import { type Family, openFamily } from '../crash/family.ts';

const LIMITS = {
  ...SMALL_LIMITS,
  reserveMinBytes: 256 * KiB,
  reserveMaxBytes: 256 * KiB,
  spaceStepBytes: 64 * KiB,
};
/** Holds the journal and the reserve, and not all of the VDI. */
const SMALL_DISK_BYTES = 850 * KiB;
/** The same of a VDI that lies over two snapshots. */
const FAMILY_DISK_BYTES = 1500 * KiB;
const STEPS = 40;
const LIVES = 4;
const FAULTY: readonly DiskOperation[] = ['write', 'punch', 'zero', 'open', 'remove', 'space'];

export type Misfortune = 'a full disk' | 'a disk that refuses now and then';

/** What clients were told besides success, and what nobody may ever see: empty if all is well. */
export interface FaultyRun {
  readonly refusals: ReadonlyMap<FaultCode, number>;
  readonly violations: readonly string[];
}

/**
 * A store lives several lives on a bad disk under random requests, and is stopped in every way in
 * between. A request may fail, by the faults that a bad disk explains; then each of its blocks is
 * old or new. Everything else holds as on a good one. With an odd seed the VDI lies over snapshots.
 */
export async function runOnFaultyDisk(seed: number, misfortune: Misfortune): Promise<FaultyRun> {
  const run = new Run(seed, misfortune);
  await run.live();
  return run;
}

class Run implements FaultyRun {
  readonly refusals = new Map<FaultCode, number>();
  readonly violations: string[] = [];
  readonly #random: Random;
  readonly #faultRandom: Random;
  readonly #misfortune: Misfortune;
  readonly #model = new BlockModel(DISK_BLOCKS);
  readonly #open: typeof openDisk;
  /** The snapshots that it lies over: they stay what they are. */
  #snapshots: Family['stories'] = [];
  #disk: SimDisk;
  #now = 0;
  #value = 0;
  /** A sync failed: from then on this life only fails. */
  #lost = false;

  constructor(seed: number, misfortune: Misfortune) {
    this.#random = simRandom(seed);
    this.#faultRandom = simRandom(seed + 2 ** 40);
    this.#misfortune = misfortune;
    const full = misfortune === 'a full disk';
    const family = seed % 2 === 1;
    this.#open = family ? openFamily : openDisk;
    this.#disk = new SimDisk({
      directories: ['/store'],
      delay: jitter(simRandom(seed + 2 ** 41)),
      ...(full && { totalBytes: family ? FAMILY_DISK_BYTES : SMALL_DISK_BYTES }),
      ...(seed % 3 === 0 && { cached: () => false }),
    });
  }

  async live(): Promise<void> {
    let open = await this.#open(this.#disk, this.#random, 1, LIMITS);
    await this.#takeAsShown(open);
    this.#snapshots = open.family?.stories ?? [];
    for (let life = 1; life <= LIVES; life += 1) {
      await this.#use(open);
      const stop = await this.#stop(open);
      open = await this.#open(this.#disk, this.#random, life + 1, LIMITS);
      await this.#look(`after ${stop}, life ${life}`, open, stop);
      if (this.violations.length > 0) return;
      await this.#takeAsShown(open);
    }
  }

  async #use(open: OpenDisk): Promise<void> {
    this.#lost = false;
    this.#setFaults(this.#misfortune !== 'a full disk');
    for (let step = 0; step < STEPS && !this.#lost; step += 1) {
      const together = 1 + this.#random.below(5);
      await Promise.all(Array.from({ length: together }, () => this.#request(open)));
    }
    this.#setFaults(false);
    if (!this.#lost) await this.#look('while it lives', open, 'a kill');
  }

  #setFaults(on: boolean): void {
    this.#disk.injectFaults((operation, path) => {
      if (!on || !FAULTY.includes(operation) || path.includes('/journal/')) return undefined;
      if (this.#faultRandom.below(60) > 0) return undefined;
      const code = this.#faultRandom.below(2) === 0 ? 'ERR_IO' : 'ERR_NO_SPACE';
      return new SheepError(code, 'the disk refuses it');
    });
  }

  #request({ farm, volume }: OpenDisk): Promise<void> {
    const dice = this.#random.below(20);
    const { first, length } = this.#range(dice);
    const [at, bytes] = [first * BLOCK_BYTES, length * BLOCK_BYTES];
    if (dice < 11) return this.#write(volume, first, length);
    if (dice === 11) return this.#zero(first, length, () => volume.trim(at, bytes, PLAIN));
    if (dice < 15) {
      const keepAllocated = this.#random.below(3) === 0;
      const call = { ...PLAIN, keepAllocated, fastOnly: false };
      return this.#zero(first, length, () => volume.writeZeroes(at, bytes, call));
    }
    if (dice < 18) return this.#flush(volume);
    if (dice === 18) return this.#told(() => farm.maintain()).then(() => undefined);
    return this.#told(() => volume.read(at, new Uint8Array(bytes))).then(() => undefined);
  }

  async #write(volume: OpenDisk['volume'], first: number, length: number): Promise<void> {
    this.#value += 1;
    const value = this.#random.below(8) === 0 ? 0 : this.#value;
    const bytes = fillBlocks(new Uint8Array(length * BLOCK_BYTES), value);
    const durable = this.#random.below(6) === 0;
    const answer = this.#model.begin(first, first + length, value, this.#tick());
    const done = await this.#told(() => volume.write(first * BLOCK_BYTES, bytes, { durable }));
    answer(done ? this.#tick() : Number.POSITIVE_INFINITY);
    if (done && durable) this.#model.flush(first, first + length)(this.#tick());
  }

  async #zero(first: number, length: number, run: () => Promise<void>): Promise<void> {
    const answer = this.#model.begin(first, first + length, 0, this.#tick());
    answer((await this.#told(run)) ? this.#tick() : Number.POSITIVE_INFINITY);
  }

  async #flush(volume: OpenDisk['volume']): Promise<void> {
    const answer = this.#model.flush();
    if (await this.#told(() => volume.flush())) answer(this.#tick());
  }

  /** True if it was done; a refusal must be one that the disk explains. */
  async #told(run: () => unknown): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      const { code } = error as { code?: FaultCode };
      const full = this.#misfortune === 'a full disk';
      const explained = full ? ['ERR_NO_SPACE'] : ['ERR_NO_SPACE', 'ERR_IO', 'ERR_LOST'];
      if (code === undefined || !explained.includes(code)) {
        this.violations.push(`told ${String((error as Error).stack)}`);
        return false;
      }
      this.#lost ||= code === 'ERR_LOST';
      this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
      return false;
    }
  }

  async #stop({ farm }: OpenDisk): Promise<Stop> {
    const unclean: Stop[] = ['a kill', 'a power cut'];
    const stops: Stop[] = this.#lost ? unclean : [...unclean, 'a clean stop'];
    let stop = stops[this.#random.below(stops.length)] as Stop;
    if (stop === 'a clean stop') {
      // Of a sync that failed in the background nobody was told yet.
      const clean = await this.#told(() => farm[Symbol.asyncDispose]());
      if (!clean) stop = 'a kill';
    }
    const before = this.#disk;
    this.#disk = stop === 'a power cut' ? before.powerCut(this.#random) : before.kill();
    before.halt();
    return stop;
  }

  async #look(when: string, { volume, family }: OpenDisk, stop: Stop): Promise<void> {
    const as = stop === 'a power cut' ? 'power-cut' : 'kill';
    const found = await violations(volume, (block) => this.#model.allowed(block, this.#now, as));
    found.push(...((await family?.violations(this.#snapshots, this.#now)) ?? []));
    this.violations.push(...found.map((sentence) => `${when}: ${sentence}`));
  }

  /** What the disk shows and then flushes is what the next life has to keep. */
  async #takeAsShown({ volume }: OpenDisk): Promise<void> {
    const bytes = new Uint8Array(BLOCK_BYTES);
    for (let block = 0; block < DISK_BLOCKS; block += 1) {
      await volume.read(block * BLOCK_BYTES, bytes);
      const value = blockValue(bytes) ?? Number.NaN;
      this.#model.begin(block, block + 1, value, this.#tick())(this.#tick());
    }
    const answer = this.#model.flush();
    await volume.flush();
    answer(this.#tick());
  }

  #range(dice: number): { first: number; length: number } {
    const most = this.#random.below(dice < 11 ? 4 : 3) === 0 ? DISK_BLOCKS : dice < 11 ? 2 : 12;
    const length = 1 + this.#random.below(most);
    return { first: this.#random.below(DISK_BLOCKS - length + 1), length };
  }

  #tick(): number {
    this.#now += 1;
    return this.#now;
  }
}

type Stop = 'a kill' | 'a power cut' | 'a clean stop';
const PLAIN = { durable: false };

/** Operations take their time, each another: so that they meet in every order. */
function jitter(random: Random): () => Promise<void> {
  const mode = random.below(3);
  return async () => {
    const slow = mode === 1 ? random.below(6) : random.below(10) === 0 ? 60 : 1;
    for (let turns = mode === 0 ? 0 : slow; turns >= 0; turns -= 1) await undefined;
  };
}
