import { assert } from '../../src/base/assert.ts';
import { Gate } from '../../src/base/gate.ts';
import { KIND, type ObjectName, type Vid } from '../../src/base/ids.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import type { Farm } from '../../src/farm/farm.ts';
import type { FarmLimits } from '../../src/farm/limits.ts';
import { makeVolume, openSnapshot, openVolume } from '../../src/vdi/open-volume.ts';
import type { VolumeRecord, VolumeState } from '../../src/vdi/record.ts';
import { sweep } from '../../src/vdi/sweep.ts';
import type { Volume } from '../../src/vdi/volume.ts';
import { fillBlocks } from './block-model.ts';
import {
  DISK_BLOCKS,
  type OpenDisk,
  openStore,
  recordOf,
  valuesOf,
  violations,
} from './disk-world.ts';

interface Member {
  readonly vid: Vid;
  parent: Vid;
  state: VolumeState;
}

/** A snapshot as a run made it. */
interface Story {
  readonly vid: Vid;
  readonly begunAt: number;
  /** When its maker was told that it is there, and when somebody asked for its end. */
  madeAt: number;
  deletedAt: number;
  values: readonly (number | undefined)[];
}

const FIRST = 3;
/** Where the members stand: one block, so that a change of several is one. */
const BOOK: ObjectName = { kind: KIND.attribute, vid: 1, index: 0, slot: 0 };
const CALL = { stamp: Object.freeze({ epoch: 1, attachEpoch: 1 }), durable: true };

/** A disk and its snapshots in one store, with a book of one block for the directory. */
export class Family {
  readonly #farm: Farm;
  readonly #life: number;
  readonly #members: Member[];
  #volume: Volume | undefined;
  /** One snapshot or change of the book at a time; and one sweep. */
  readonly #making = new Gate();
  readonly #writing = new Gate();
  readonly #sweeping = new Gate();
  readonly stories: Story[] = [];

  private constructor(farm: Farm, life: number, members: Member[]) {
    this.#farm = farm;
    this.#life = life;
    this.#members = members;
  }

  /** A disk over two snapshots, with data in each of the three. */
  static async make(farm: Farm, random: Random): Promise<Family> {
    const family = new Family(farm, 1, [{ vid: FIRST, parent: 0, state: 'ready' }]);
    await farm.write(BOOK, 0, family.#page(), { ...CALL, createBytes: BLOCK_BYTES });
    await makeVolume({ store: farm, record: family.#working });
    family.#volume = await openVolume({ store: farm, record: family.#working });
    for (let generation = 1; generation <= 3; generation += 1) {
      await family.#scatter(random, generation * 100_000);
      if (generation < 3) await family.snapshot(() => 0);
    }
    await family.volume.flush();
    return family;
  }

  static async open(farm: Farm, life: number): Promise<Family> {
    const bytes = new Uint8Array(BLOCK_BYTES);
    await farm.read(BOOK, 0, bytes);
    const text = new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    const family = new Family(farm, life, JSON.parse(text) as Member[]);
    for (const member of family.#members) if (member.state === 'making') member.state = 'deleting';
    await family.#write();
    family.#volume = await openVolume({ store: farm, record: family.#working });
    await family.#sweepAll();
    return family;
  }

  get volume(): Volume {
    assert(this.#volume !== undefined, 'it was opened');
    return this.#volume;
  }

  records(): VolumeRecord[] {
    return this.#members.map((member) => this.#recordOf(member));
  }

  /** What the disk holds becomes a snapshot. */
  snapshot(now: () => number): Promise<void> {
    return this.#making.pass(true, async () => {
      const parent = this.#members.find(({ state }) => state === 'ready') as Member;
      const vid = Math.max(...this.#members.map((member) => member.vid)) + 1;
      const child: Member = { vid, parent: parent.vid, state: 'making' };
      this.#members.push(child);
      await this.#write();
      const story = {
        ...{ vid: parent.vid, begunAt: now() },
        ...{ madeAt: Infinity, deletedAt: Infinity, values: [] },
      };
      this.stories.push(story);
      await this.volume.freeze(
        (root) => makeVolume({ store: this.#farm, record: this.#recordOf(child) }, root),
        async () => {
          parent.state = 'snapshot';
          child.state = 'ready';
          await this.#write();
          return { frozen: this.#recordOf(parent), working: this.#recordOf(child) };
        },
      );
      story.madeAt = now();
      Object.assign(story, { values: await this.#valuesOf(parent) });
    });
  }

  /** Some snapshot goes, if there is one, and whatever nobody needs any more. */
  async deleteOne(random: Random, now: () => number): Promise<void> {
    await this.#making.pass(true, async () => {
      const snapshots = this.#members.filter(({ state }) => state === 'snapshot');
      const member = snapshots[random.below(Math.max(1, snapshots.length))];
      if (member === undefined) return;
      for (const story of this.stories) if (story.vid === member.vid) story.deletedAt = now();
      member.state = 'deleting';
      await this.#write();
    });
    await this.#sweepAll();
  }

  /** From here on what it shows is what it has to keep. */
  async takeAsShown(): Promise<void> {
    for (const member of this.#members) {
      if (member.state !== 'snapshot') continue;
      const values = await this.#valuesOf(member);
      const { vid } = member;
      this.stories.push({ vid, begunAt: 0, madeAt: 0, deletedAt: Infinity, values });
    }
  }

  /** Whatever a snapshot of these stories holds that it may not, after a stop at this moment. */
  async violations(stories: readonly Story[], stoppedAt: number): Promise<string[]> {
    const found: string[] = [];
    for (const { vid, madeAt, deletedAt } of stories) {
      const there = this.#members.find((member) => member.vid === vid)?.state === 'snapshot';
      if (there || madeAt > stoppedAt || deletedAt <= stoppedAt) continue;
      found.push(`snapshot ${vid} is gone`);
    }
    for (const member of this.#members) {
      if (member.state !== 'snapshot') continue;
      const story = stories.find(({ vid }) => vid === member.vid);
      if (story === undefined || story.begunAt > stoppedAt) {
        found.push(`snapshot ${member.vid} is nobody's`);
        continue;
      }
      const wrong = await violations(
        await this.#openSnapshot(member),
        (block) => new Set([story.values[block] ?? -1]),
      );
      found.push(...wrong.map((sentence) => `snapshot ${member.vid}: ${sentence}`));
    }
    return found;
  }

  #sweepAll(): Promise<void> {
    return this.#sweeping.pass(true, async () => {
      for (const member of this.#members.filter(({ state }) => state === 'deleting').reverse()) {
        const record = this.#recordOf(member);
        if (!(await sweep({ store: this.#farm, record, family: this.records() }))) continue;
        await this.#making.pass(true, () => this.#forget(member));
      }
    });
  }

  async #forget({ vid, parent }: Member): Promise<void> {
    for (const each of this.#members) if (each.parent === vid) each.parent = parent;
    const place = this.#members.findIndex((each) => each.vid === vid);
    this.#members.splice(place, 1);
    await this.#write();
  }

  get #working(): VolumeRecord {
    return this.#recordOf(this.#members.find(({ state }) => state === 'ready') as Member);
  }

  #recordOf({ vid, parent, state }: Member): VolumeRecord {
    const tag = state === 'snapshot' ? `of-${vid}` : '';
    return recordOf(this.#life, { vid, parent, state, tag, family: FIRST });
  }

  #openSnapshot(member: Member) {
    return openSnapshot({ store: this.#farm, record: this.#recordOf(member) });
  }

  async #valuesOf(member: Member): Promise<(number | undefined)[]> {
    return valuesOf(await this.#openSnapshot(member));
  }

  /** Data, holes and reserved zeroes, some objects not at all. */
  async #scatter(random: Random, value: number): Promise<void> {
    for (let block = 0; block < DISK_BLOCKS; block += 1) {
      const at = block * BLOCK_BYTES;
      const dice = random.below(10);
      const absent = Math.floor(block / 8) % 4 === 3;
      if (absent || dice > 5) continue;
      const bytes = fillBlocks(new Uint8Array(BLOCK_BYTES), value + block);
      if (dice < 4) await this.volume.write(at, bytes, { durable: false });
      const call = { durable: false, keepAllocated: dice === 4, fastOnly: false };
      if (dice >= 4) await this.volume.writeZeroes(at, BLOCK_BYTES, call);
    }
  }

  /** As it stands in the turn in which it is written. */
  #write(): Promise<void> {
    return this.#writing.pass(true, async () => this.#farm.write(BOOK, 0, this.#page(), CALL));
  }

  #page(): Uint8Array {
    const bytes = new Uint8Array(BLOCK_BYTES);
    bytes.set(new TextEncoder().encode(JSON.stringify(this.#members)));
    return bytes;
  }
}

/** As `openDisk`, of a disk that has snapshots. */
export async function openFamily(
  disk: Disk,
  random: Random,
  life: number,
  limits?: FarmLimits,
): Promise<OpenDisk> {
  const farm = await openStore(disk, random, limits);
  const family = await (life === 1 ? Family.make(farm, random) : Family.open(farm, life));
  return {
    farm,
    family,
    get volume() {
      return family.volume;
    },
  };
}
