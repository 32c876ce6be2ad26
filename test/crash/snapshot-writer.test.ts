import { expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import {
  differences,
  type FamilyWorld,
  filled,
  leaks,
  OBJECT_BLOCKS,
  OBJECT_BYTES,
  openWorld,
  STORE,
} from '../vdi/family-world.ts';
import { BlockModel } from './block-model.ts';
import { restless } from './jitter.ts';
import { thrown } from './steps.ts';

/** Replay: `SEEDS=3,17 npx vitest run --project sim test/crash/snapshot-writer`. */
const fresh = () => Array.from({ length: 12 }, () => Math.floor(Math.random() * 2 ** 31));
const seeds = process.env['SEEDS']?.split(',').map(Number) ?? fresh();

/** Blocks that are written to: a few at the beginning of each object. */
const PER_OBJECT = 6;
const BLOCKS = 3 * PER_OBJECT;
const DISK_BLOCKS = 3 * OBJECT_BLOCKS;
const SNAPSHOTS = 3;
/** Steps of the disk from a change's call to its answer, of which many serve the other writers. */
const PAUSE_MAX = 250;

const placeOf = (block: number) =>
  Math.floor(block / PER_OBJECT) * OBJECT_BLOCKS + (block % PER_OBJECT);
const blockAt = (place: number) => {
  const inObject = place % OBJECT_BLOCKS;
  return inObject < PER_OBJECT
    ? Math.floor(place / OBJECT_BLOCKS) * PER_OBJECT + inObject
    : undefined;
};

interface Taken {
  readonly tag: string;
  readonly asked: number;
  readonly answered: number;
}

/** Clients that write without a pause while snapshots are taken, and what they know. */
class Load {
  readonly model = new BlockModel(BLOCKS);
  readonly taken: Taken[] = [];
  readonly #now: () => number;
  readonly #random: ReturnType<typeof simRandom>;
  longest = 0;
  #value = 0;
  #ended = false;

  constructor(now: () => number, seed: number) {
    this.#now = now;
    this.#random = simRandom(seed);
  }

  async run(world: FamilyWorld): Promise<void> {
    const device = await world.device('base');
    const writers = Array.from({ length: 4 }, () => this.#write(device));
    for (let count = 0; count < SNAPSHOTS; count += 1) {
      for (let turns = this.#random.below(400); turns > 0; turns -= 1) await null;
      await this.#take(world, `t${count}`);
    }
    this.#ended = true;
    await Promise.all(writers);
  }

  async #take(world: FamilyWorld, tag: string): Promise<void> {
    const asked = this.#now();
    const covered = this.model.flush(); // it flushes what was answered before it
    await world.volumes.snapshot('base', tag);
    const answered = this.#now();
    covered(answered);
    this.taken.push({ tag, asked, answered });
  }

  async #write(device: BlockDevice): Promise<void> {
    while (!this.#ended) {
      const block = this.#random.below(BLOCKS);
      const at = placeOf(block) * BLOCK_BYTES;
      const issued = this.#now();
      const dice = this.#random.below(10);
      if (dice === 0) {
        const covered = this.model.flush();
        await device.flush();
        covered(this.#now());
      } else {
        if (dice < 8) this.#value += 1;
        const value = dice < 8 ? this.#value : 0;
        const answer = this.model.begin(block, block + 1, value, issued);
        if (value > 0) await device.write(at, filled(1, value), { durable: false });
        else await device.trim(at, BLOCK_BYTES, { durable: false });
        answer(this.#now());
        this.longest = Math.max(this.longest, this.#now() - issued);
      }
      await null;
    }
  }
}

/** What a snapshot may hold: what the disk may have held at some moment while it was taken. */
function heldBy(model: BlockModel, { asked, answered }: Taken, block: number): number[] {
  const values = new Set<number>();
  for (let moment = asked; moment <= answered; moment += 1) {
    for (const value of model.allowed(block, moment, 'kill')) values.add(value);
  }
  return [...values];
}

async function judge(
  disk: SimDisk,
  { model, taken }: Load,
  moment: number,
  stop: 'kill' | 'power-cut',
): Promise<string[]> {
  const world = await openWorld(disk);
  await world.settle();
  const shown = (await world.volumes.list()).map(({ name }) => name);
  const found: string[] = [];
  for (const each of taken) {
    const name = `base@${each.tag}`;
    if (!shown.includes(name)) {
      if (each.answered <= moment) found.push(`${name} was answered and is not there`);
      continue;
    }
    const allowed = (place: number) => {
      const block = blockAt(place);
      return block === undefined ? [0] : heldBy(model, each, block);
    };
    found.push(...(await differences(await world.device(name), DISK_BLOCKS, allowed)));
  }
  const allowed = (place: number) => {
    const block = blockAt(place);
    return block === undefined ? [0] : [...model.allowed(block, moment, stop)];
  };
  found.push(...(await differences(await world.device('base'), DISK_BLOCKS, allowed)));
  found.push(...(await leaks(disk, world)));
  await world.stop();
  return found;
}

test.for(seeds)(
  'seed %i: snapshots beside writers hold what was answered before and nothing sent after',
  async (seed) => {
    const random = simRandom(seed);
    const start = new SimDisk({ directories: [STORE], ...restless(simRandom(seed + 1)) });
    const recording = new RecordingDisk(start.kill(), start);
    const now = () => recording.log.length;
    const world = await openWorld(recording);
    await world.volumes.create({
      name: 'base',
      sizeBytes: DISK_BLOCKS * BLOCK_BYTES,
      objectBytes: OBJECT_BYTES,
    });
    const from = now();
    const load = new Load(now, seed);
    await load.run(world);
    expect(load.longest).toBeLessThan(PAUSE_MAX);
    const moments = Array.from({ length: 12 }, () => from + random.below(now() - from + 1));
    const found: string[] = [];
    for (const moment of [...moments, now()].sort((a, b) => a - b)) {
      const stop = random.below(3) === 0 ? 'kill' : 'power-cut';
      const state = recording.stateAfter(moment);
      const left = stop === 'kill' ? state.kill(random) : state.powerCut(random);
      const wrong = await judge(left, load, moment, stop).catch((error) => [thrown(error)]);
      found.push(...wrong.map((sentence) => `${stop} at ${moment} of ${now()}: ${sentence}`));
    }
    expect(found).toEqual([]);
  },
);
