import type { Random } from '../../src/contracts/seams.ts';
import type { RecordingDisk } from '../../src/sim/recording-disk.ts';
import type { Cuttable, SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';

/** How everything is stopped at once. */
export interface Way {
  readonly kind: string;
  readonly stop: (state: Cuttable, random: Random) => SimDisk;
}

export const WAYS: readonly Way[] = [
  { kind: 'kill', stop: (state, random) => state.kill(random) },
  { kind: 'power cut', stop: (state) => state.powerCut('nothing') },
  { kind: 'power cut that lost some', stop: (state, random) => state.powerCut(random) },
];

export const LOSES_NOTHING: Way = {
  kind: 'power cut that lost nothing',
  stop: (state) => state.powerCut('everything'),
};

export interface Steps<Stop extends Way> {
  readonly recording: RecordingDisk;
  /** How long its log was when that began which is stopped; it has ended at the log's end. */
  readonly from: number;
  readonly ways: readonly Stop[];
  /** Only each so-manieth step, and the end. */
  readonly stride?: number;
  /** Each step in all ways; otherwise in one, in turn, and only the end in all. */
  readonly isThorough?: boolean;
}

export interface Moment<Stop extends Way> {
  readonly way: Stop;
  /** Steps since it began. */
  readonly step: number;
  /** The end: what was done has been answered for. */
  readonly answered: boolean;
}

/** What a stop has left, held against what was promised: what is wrong with it, as sentences. */
export type Judge<Stop extends Way> = (
  left: SimDisk,
  moment: Moment<Stop>,
) => Promise<readonly string[]>;

export interface Stopped {
  readonly stops: number;
  /** What is wrong at the first step at which something is; empty if all is well. */
  readonly found: readonly string[];
}

/** What was recorded, stopped after each step of the disk's log. */
export async function stopAfterEachStep<Stop extends Way>(
  steps: Steps<Stop>,
  judge: Judge<Stop>,
): Promise<Stopped> {
  const { recording, from, ways, stride = 1 } = steps;
  const to = recording.log.length;
  const found: string[] = [];
  let stops = 0;
  for (let at = from; found.length === 0; at = Math.min(at + stride, to)) {
    const answered = at === to;
    const all = answered || steps.isThorough === true;
    for (const way of all ? ways : [ways[at % ways.length]!]) {
      const left = way.stop(recording.stateAfter(at), simRandom(at));
      const moment = { way, step: at - from, answered };
      const wrong = await judge(left, moment).catch((error) => [thrown(error)]);
      found.push(...wrong.map((sentence) => `${way.kind} at ${at - from}: ${sentence}`));
      stops += 1;
    }
    if (answered) break;
  }
  return { stops, found };
}

/** What was thrown, with where. */
export function thrown(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
