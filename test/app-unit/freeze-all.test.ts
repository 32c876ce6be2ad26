import { describe, expect, test } from 'vitest';
import type { FrozenCluster } from '../../src/app/freeze-all.ts';
import { SheepError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { ObjectStore } from '../../src/contracts/object-store.ts';
import type { Random } from '../../src/contracts/seams.ts';
import type { LogEntry } from '../../src/sim/disk-log.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { openSnapshot } from '../../src/vdi/open-volume.ts';
import { turn } from '../base/turn.ts';
import { blockValue } from '../crash/block-model.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { leaks, STORE } from '../vdi/family-world.ts';
import { hooked } from '../vdi/stores.ts';
import { heldIn } from './cluster-saves.ts';
import { type ClusterWorld, openCluster } from './cluster-world.ts';

const emptyDisk = () => new SimDisk({ directories: [STORE] });
const PLAIN = { durable: false };
const BLOCKS = 300;

/** The same store, whose operations settle some turns later: of some VDIs many. */
function dawdling(store: ObjectStore, random: Random): ObjectStore {
  const later = async (done: void | Promise<void>, turnsMax: number) => {
    await done;
    for (let turns = random.below(turnsMax); turns > 0; turns -= 1) await turn();
  };
  return {
    ...hooked(store, () => undefined),
    write: (...asked) => later(store.write(...asked), 3),
    flush: (vid, ...asked) => later(store.flush(vid, ...asked), vid % 3 === 0 ? 40 : 2),
  };
}

/** The value of a block of each VDI in a frozen cluster, by name. */
async function valuesIn(
  { parts }: ClusterWorld,
  { vdis }: FrozenCluster,
  block: number,
): Promise<Map<string, number>> {
  const values = new Map<string, number>();
  for (const { held, working } of vdis) {
    await using device = await openSnapshot({ store: parts.objects, record: held });
    const bytes = new Uint8Array(4096);
    await device.read(block * 4096, bytes);
    values.set(working.name, blockValue(bytes) ?? Number.NaN);
  }
  return values;
}

/** Writes 1, 2, 3, … to its block, each to some VDI, the next one after the answer. */
class Writer {
  readonly block: number;
  /** The VDI of each number, from 1 on. */
  readonly history: string[] = [];
  answered = 0;
  #stopped = false;

  constructor(block: number) {
    this.block = block;
  }

  async run(world: ClusterWorld, names: readonly string[], random: Random): Promise<void> {
    while (!this.#stopped) {
      const name = names[random.below(names.length)]!;
      const device = await world.device(name);
      this.history.push(name);
      const bytes = new Uint8Array(4096);
      new Uint32Array(bytes.buffer).fill(this.history.length);
      await device.write(this.block * 4096, bytes, PLAIN);
      this.answered = this.history.length;
      for (let turns = random.below(3); turns > 0; turns -= 1) await turn();
    }
  }
  stop(): void {
    this.#stopped = true;
  }

  /** What a state that holds all up to the last of `values` has to hold. */
  upTo(last: number): Map<string, number> {
    const held = new Map<string, number>();
    for (const [place, name] of this.history.slice(0, last).entries()) held.set(name, place + 1);
    return held;
  }
}

test.for([1, 2, 3, 4, 5, 6])(
  'what is written to one VDI after the answer of another is never frozen without that (%i)',
  async (seed) => {
    const random = simRandom(seed);
    const world = await openCluster(emptyDisk(), { wrap: (store) => dawdling(store, random) });
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) await create(world, new FamilyModel(), name, BLOCKS);
    // Of one nobody writes, and nobody has it open.
    const written = names.slice(0, 4);
    // Two blocks of the first object, and two of another one.
    const writers = [0, 1, 260, 261].map((block) => new Writer(block));
    const running = writers.map((writer) => writer.run(world, written, random));
    for (let round = 0; round < 8; round += 1) {
      for (let turns = random.below(30); turns > 0; turns -= 1) await turn();
      const answered = writers.map((writer) => writer.answered);
      using frozen = await world.volumes.freezeAll(world.parts.clock);
      const asked = writers.map(({ history }) => history.length);
      for (const [place, writer] of writers.entries()) {
        const values = await valuesIn(world, frozen, writer.block);
        const last = Math.max(...values.values());
        expect(last).toBeGreaterThanOrEqual(answered[place]!);
        expect(last).toBeLessThanOrEqual(asked[place]!);
        const expected = writer.upTo(last);
        for (const name of names) expect(values.get(name)).toBe(expected.get(name) ?? 0);
      }
    }
    for (const writer of writers) writer.stop();
    await Promise.all(running);
  },
);

describe('a freeze that fails before the instant', () => {
  /** Three VDIs with something unflushed: two in use, one that nobody has open. */
  async function three(fault: () => void, disk = emptyDisk()) {
    const world = await openCluster(disk, { wrap: (store) => hooked(store, fault) });
    const model = new FamilyModel();
    for (const name of ['a', 'b', 'c']) {
      await create(world, model, name, BLOCKS);
      await write(world, model, name, { first: 3, count: 2, value: 5 });
    }
    await world.leave('c');
    return { disk, world, model };
  }

  test('has done nothing to any, whichever step it is, and writers go on', async () => {
    let [count, failAt] = [0, Number.POSITIVE_INFINITY];
    const fault = () => {
      count += 1;
      if (count === failAt) throw new SheepError('ERR_NO_SPACE', 'the medium is full');
    };
    const { disk, world, model } = await three(fault);
    let failures = 0;
    for (let step = 1; ; step += 1) {
      [count, failAt] = [0, step];
      const outcome = await world.volumes.freezeAll(world.parts.clock).then(
        (frozen) => {
          frozen[Symbol.dispose]();
          return undefined;
        },
        (error) => error,
      );
      failAt = Number.POSITIVE_INFINITY;
      if (outcome === undefined) break;
      expect(outcome).toMatchObject({
        code: 'ERR_NO_SPACE',
        message: expect.stringMatching(/^'[abc]' cannot be frozen: the medium is full$/),
      });
      failures += 1;
      const states = (await world.directory.all()).map(({ state }) => state);
      expect(states).not.toContain('held');
      expect(states).not.toContain('making');
      for (const name of ['a', 'b', 'c']) {
        await write(world, model, name, { first: 100 + step, count: 1, value: step });
      }
      await world.leave('c');
      await world.settle();
    }
    expect(failures).toBeGreaterThan(12);
    expect(await heldIn(world)).toHaveLength(3);
    expect(await model.compare(world)).toEqual([]);
    expect(await leaks(disk, world)).toEqual([]);
  });

  test('as one that is aborted', async () => {
    const stop = new AbortController();
    let [flushes, stopAt] = [0, Number.POSITIVE_INFINITY];
    const { world, model } = await three(() => {
      flushes += 1;
      if (flushes === stopAt) stop.abort(new SheepError('ERR_SHUTDOWN', 'stop'));
    });
    stopAt = flushes + 9;
    const freezing = world.volumes.freezeAll(world.parts.clock, { signal: stop.signal });
    await expect(freezing).rejects.toMatchObject({ code: 'ERR_SHUTDOWN' });
    expect(await heldIn(world)).toEqual([]);
    expect(await model.compare(world)).toEqual([]);
  });
});

/** What the disk did at most from the call of a write that had to wait to its answer. */
async function longestWait(attached: number, resting: number) {
  const start = emptyDisk();
  const disk = new RecordingDisk(start.kill(), start);
  let probe = () => {};
  const world = await openCluster(disk, { wrap: (store) => hooked(store, () => probe()) });
  const names = Array.from({ length: attached + resting }, (_, n) => `vdi${n}`);
  const model = new FamilyModel();
  for (const name of names) {
    await create(world, model, name, BLOCKS);
    await write(world, model, name, { first: 7, count: 1, value: 9 });
    await world.leave(name);
  }
  const devices: BlockDevice[] = [];
  for (const name of names.slice(0, attached)) {
    await write(world, model, name, { first: 8, count: 1, value: 9 });
    devices.push(await world.device(name));
  }
  const answers: Promise<void>[] = [];
  let longest = { steps: 0, syncs: 0 };
  const ended = (from: number) => {
    const steps = disk.log.slice(from);
    const isSync = (entry: LogEntry) => 'effect' in entry && entry.effect.kind.startsWith('sync');
    if (steps.length < longest.steps) return;
    longest = { steps: steps.length, syncs: steps.filter(isSync).length };
  };
  let isProbing = false;
  // At each step of the freeze every VDI is written to that is not waiting yet.
  probe = () => {
    if (isProbing) return;
    isProbing = true;
    for (const device of devices.splice(0)) {
      const from = disk.log.length;
      const answer = device.write(0, new Uint8Array(4096).fill(1), PLAIN);
      if (answer === undefined) devices.push(device);
      else answers.push(answer.then(() => ended(from)).finally(() => devices.push(device)));
    }
    isProbing = false;
  };
  using frozen = await world.volumes.freezeAll(world.parts.clock);
  probe = () => {};
  expect(frozen.vdis).toHaveLength(names.length);
  await Promise.all(answers);
  return longest;
}

describe('writers wait', () => {
  test('no longer because of VDIs that nobody has open, however many', async () => {
    const few = await longestWait(3, 2);
    const many = await longestWait(3, 97);
    // One more of these would take more than that.
    expect(many.syncs).toBeLessThan(few.syncs + 20);
    expect(many.steps).toBeLessThan(few.steps + 60);
  });

  test('for a few syncs more with each VDI that is open', async () => {
    const { syncs } = await longestWait(30, 2);
    expect(syncs).toBeLessThan(30 * 10);
  });
});
