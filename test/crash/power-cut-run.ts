import { formatOid } from '../../src/base/ids.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { parseIdentity } from '../../src/farm/identity.ts';
import { scanJournal } from '../../src/farm/journal-scan.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { BlockModel } from './block-model.ts';
import { DISK_BLOCKS, openDisk, orphans, runLoad, violations } from './disk-world.ts';
import { restless } from './jitter.ts';

type Stop = 'kill' | 'power-cut';
type Allowed = (block: number, stop: Stop) => ReadonlySet<number>;

export interface CutRun {
  /** What a stop left that the promises do not allow: empty if all is well. */
  readonly violations: string[];
  readonly cuts: number;
}

/**
 * One world: a store lives through a load on a recorded disk; then it is stopped at random moments,
 * by a power cut or a kill, opened, held against the model, used, stopped once more (also during
 * the recovery itself), opened and held against it again.
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
  const model = new BlockModel(DISK_BLOCKS);
  const first = await openDisk(wrap(recording), random, 1);
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
    try {
      const sentences =
        moment < madeAt
          ? await opensAnew(wrap(left), random)
          : await checkAndGoOn(left, wrap, random, allowed, kind);
      found.push(...sentences.map((sentence) => `${label}: ${sentence}`));
    } catch (error) {
      found.push(`${label}: ${error instanceof Error ? error.stack : String(error)}`);
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
async function opensAnew(disk: Disk, random: Random): Promise<string[]> {
  const { farm, volume } = await openDisk(disk, random, 1);
  const found = await violations(volume, () => new Set([0]));
  await farm[Symbol.asyncDispose]();
  return found;
}

async function checkAndGoOn(
  left: SimDisk,
  wrap: (disk: Disk) => Disk,
  random: Random,
  allowed: Allowed,
  kind: Stop,
): Promise<string[]> {
  const recording = new RecordingDisk(left.kill(), left);
  const listed = await listedOids(left.kill());
  const second = await openDisk(wrap(recording), random, 2);
  const openedAt = recording.log.length;
  const found = await violations(second.volume, (block) => allowed(block, kind));
  found.push(...(await orphans(recording, second, listed)));
  if (found.length > 0) return found;

  // It is used again and stopped again: now what it showed is where the model starts.
  const model = new BlockModel(DISK_BLOCKS);
  const shown = await valuesOf(second.volume);
  const now = () => recording.log.length;
  await runLoad(second, { random, steps: 12, model, now, firstValue: 1_000_000 });
  const moment = random.below(recording.log.length + 1);
  const again = random.below(3) === 0 ? 'kill' : 'power-cut';
  const state = recording.stateAfter(moment);
  const third = await openDisk(
    wrap(again === 'kill' ? state.kill(random) : state.powerCut(random)),
    random,
    3,
  );
  const floor = (block: number): ReadonlySet<number> => {
    const later = model.allowed(block, moment, again);
    if (!later.has(0)) return later;
    // Nothing of the second life is promised: then what the first one promised holds on. A kill
    // keeps what was shown; a power cut may take back what only a kill would have kept.
    if (again === 'power-cut') return new Set([...later, ...allowed(block, 'power-cut')]);
    const base = moment >= openedAt ? [shown[block] as number] : allowed(block, kind);
    return new Set([...later, ...base]);
  };
  const after = await violations(third.volume, floor);
  await third.farm[Symbol.asyncDispose]();
  return after.map((sentence) => `second life, ${again} at ${moment}: ${sentence}`);
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

async function valuesOf(volume: Parameters<typeof violations>[0]): Promise<number[]> {
  const bytes = new Uint8Array(4096);
  const values: number[] = [];
  for (let block = 0; block < DISK_BLOCKS; block += 1) {
    await volume.read(block * 4096, bytes);
    values.push(new Uint32Array(bytes.buffer)[0] as number);
  }
  return values;
}
