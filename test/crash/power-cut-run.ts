import { formatOid } from '../../src/base/ids.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { parseIdentity } from '../../src/farm/identity.ts';
import { scanJournal } from '../../src/farm/journal-scan.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { BlockModel } from './block-model.ts';
import { DISK_BLOCKS, openDisk, orphans, valuesOf, violations } from './disk-world.ts';
import { type Family, openFamily } from './family.ts';
import { restless } from './jitter.ts';
import { runLoad } from './load.ts';
import { thrown } from './steps.ts';

type Stop = 'kill' | 'power-cut';
type Allowed = (block: number, stop: Stop) => ReadonlySet<number>;
type Open = typeof openDisk;

export interface CutRun {
  /** What a stop left that the promises do not allow: empty if all is well. */
  readonly violations: string[];
  readonly cuts: number;
}

/**
 * One world: a store lives through a load on a recorded disk; then it is stopped at random moments,
 * by a power cut or a kill, opened, held against the model, used, stopped once more (also during
 * the recovery itself), opened and held against it again. With an odd seed the disk lies over snapshots,
 * and more are taken and deleted.
 * @param wrap  puts something between the store and the disk, such as a sync that is left out
 */
export async function runPowerCuts(options: {
  seed: number;
  cuts: number;
  steps: number;
  wrap?: (disk: Disk) => Disk;
  stopAtFirst?: boolean;
}): Promise<CutRun> {
  const { seed, wrap = (disk: Disk) => disk } = options;
  const random = simRandom(seed);
  const start = new SimDisk({ directories: ['/store'], ...restless(simRandom(seed + 1)) });
  const recording = new RecordingDisk(start.kill(), start);
  const now = () => recording.log.length;
  const open: Open = seed % 2 === 1 ? openFamily : openDisk;
  const first = await open(wrap(recording), random, 1);
  const model = new BlockModel(DISK_BLOCKS, (await valuesOf(first.volume)) as number[]);
  const madeAt = now();
  await runLoad(first, { random, steps: options.steps, model, now, firstValue: 0 });
  if (random.below(3) === 0) await first.farm[Symbol.asyncDispose]();

  const found: string[] = [];
  let cuts = 0;
  for (const moment of moments(random, options.cuts, now())) {
    cuts += 1;
    const kind = random.below(4) === 0 ? 'kill' : 'power-cut';
    const state = recording.stateAfter(moment);
    const left = kind === 'kill' ? state.kill(random) : state.powerCut(random);
    const label = `seed ${seed}, ${kind} at ${moment} of ${now()}`;
    const allowed: Allowed = (block, stop) => model.allowed(block, moment, stop);
    const stories = first.family?.stories ?? [];
    try {
      const sentences =
        moment < madeAt
          ? await opensAnew(open, wrap(left), random)
          : await checkAndGoOn(left, { open, wrap, random, allowed, kind, stories, moment });
      found.push(...sentences.map((sentence) => `${label}: ${sentence}`));
    } catch (error) {
      found.push(`${label}: ${thrown(error)}`);
    }
    if (options.stopAtFirst === true && found.length > 0) break;
  }
  return { violations: found, cuts };
}

/** Ascending, because going back in a recording is dear. */
function moments(random: { below(limit: number): number }, count: number, to: number): number[] {
  const drawn = Array.from({ length: count }, () => random.below(to + 1));
  return drawn.sort((a, b) => a - b);
}

/** Stopped before there was a VDI: the store is made, or made again, and the VDI after it. */
async function opensAnew(open: Open, disk: Disk, random: Random): Promise<string[]> {
  const { farm, volume, family } = await open(disk, random, 1);
  const found = family ? [] : await violations(volume, () => new Set([0]));
  await farm[Symbol.asyncDispose]();
  return found;
}

async function checkAndGoOn(
  left: SimDisk,
  stopped: {
    readonly open: Open;
    readonly wrap: (disk: Disk) => Disk;
    readonly random: Random;
    readonly allowed: Allowed;
    readonly kind: Stop;
    readonly stories: Family['stories'];
    readonly moment: number;
  },
): Promise<string[]> {
  const { open, wrap, random, allowed, kind } = stopped;
  const recording = new RecordingDisk(left.kill(), left);
  const listed = await listedOids(left.kill());
  const second = await open(wrap(recording), random, 2);
  const openedAt = recording.log.length;
  const found = await violations(second.volume, (block) => allowed(block, kind));
  found.push(...((await second.family?.violations(stopped.stories, stopped.moment)) ?? []));
  found.push(...(await orphans(recording, second, listed)));
  if (found.length > 0) return found;

  // It is used again and stopped again: now what it showed is where the model starts.
  const shown = (await valuesOf(second.volume)) as number[];
  await second.family?.takeAsShown();
  const model = new BlockModel(DISK_BLOCKS, shown);
  const now = () => recording.log.length;
  await runLoad(second, { random, steps: 12, model, now, firstValue: 900_000 });
  const moment = random.below(recording.log.length + 1);
  const again = random.below(3) === 0 ? 'kill' : 'power-cut';
  const state = recording.stateAfter(moment);
  const third = await open(
    wrap(again === 'kill' ? state.kill(random) : state.powerCut(random)),
    random,
    3,
  );
  // Where nothing of the second life is promised, what the first one promised holds on. A kill keeps
  // what was shown; a power cut may take back what only a kill would have kept.
  const before = (block: number): ReadonlySet<number> => {
    if (again === 'power-cut') return allowed(block, 'power-cut');
    return moment >= openedAt ? new Set([shown[block] as number]) : allowed(block, kind);
  };
  const after = await violations(third.volume, (block) =>
    model.allowed(block, moment, again, before(block)),
  );
  const told = second.family?.stories ?? [];
  const takenBack = moment < openedAt ? mayComeBack(stopped.stories, told) : [];
  after.push(...((await third.family?.violations([...told, ...takenBack], moment)) ?? []));
  await third.farm[Symbol.asyncDispose]();
  return after.map((sentence) => `second life, ${again} at ${moment}: ${sentence}`);
}

/**
 * Snapshots whose deletion a kill had kept in the page cache and nowhere else: until the second life
 * was open, a power cut may bring them back as they were.
 */
function mayComeBack(before: Family['stories'], shown: Family['stories']): Family['stories'] {
  const gone = before.filter(({ vid }) => !shown.some((story) => story.vid === vid));
  return gone.map((story) => ({ ...story, begunAt: 0, madeAt: Infinity, deletedAt: Infinity }));
}

/** What the activity log names before anything was done about it. */
async function listedOids(disk: Disk): Promise<Set<string>> {
  await using file = await disk.open('/store/store.json');
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  const { nodeId } = parseIdentity(new TextDecoder().decode(bytes), 'store.json');
  const scan = await scanJournal(disk, '/store', nodeId);
  return new Set([...scan.listed.values()].map(({ name }) => formatOid(name)));
}
