import { isFault } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Coordinator, Entry, Swap } from '../../src/contracts/coordinator.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import type { LogEntry } from '../../src/sim/disk-log.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { thrown } from './steps.ts';

const KEYS = ['a', 'b', 'c', 'd', 'e', 'f'];
/** Every coordinator here lies in this directory, which survives. */
const DIRECTORY = '/store';

/** What a coordinator showed: each key with its revision, its first byte and its length. */
type Shown = string;

interface Story {
  /** What was there at each revision, from 0 on. */
  readonly states: Shown[];
  /** How long the recording was when a revision was answered for. */
  readonly answers: { readonly at: number; readonly revision: bigint }[];
}

/** `unknown`: what comes after the last answer may be of a change that was refused later. */
type Expected = Story & { readonly unknown: boolean };

/**
 * One coordinator lives through a load on a recorded disk; then it is killed or the power is cut at
 * random moments, and what is left is opened, held against the story, used, and, after a power cut,
 * held against it again.
 * @returns what the promises forbid: empty if all is well
 */
export async function runCoordinatorCuts(options: {
  readonly seed: number;
  readonly cuts: number;
  readonly steps: number;
  /** Something between the coordinator and the disk, such as a sync that is left out. */
  readonly wrap?: (disk: Disk) => Disk;
}): Promise<string[]> {
  const { seed, cuts, steps, wrap = (disk: Disk) => disk } = options;
  const random = simRandom(seed);
  const start = new SimDisk({ directories: [DIRECTORY] });
  const inner = start.kill();
  const recording = new RecordingDisk(inner, start);
  const coordinator = await openAt(wrap(recording));
  const now = () => recording.log.length;
  const story: Story = { states: [await shownBy(coordinator)], answers: [] };
  await live(coordinator, story, { random, steps, now, inner });
  if (random.below(2) === 0) await coordinator[Symbol.asyncDispose]();

  const found: string[] = [];
  const moments = Array.from({ length: cuts }, () => random.below(now() + 1));
  for (const moment of moments.sort((a, b) => a - b)) {
    const state = recording.stateAfter(moment);
    const left = random.below(3) === 0 ? state.kill() : state.powerCut(random);
    const answered = story.answers.filter(({ at }) => at <= moment).at(-1)?.revision ?? 0n;
    const unknown = refusedAt(recording.log, moment);
    const wrong = await checkTwice(left, wrap, { ...story, unknown }, answered, random).catch(
      thrown,
    );
    if (wrong !== undefined) found.push(`seed ${seed}, stopped at ${moment} of ${now()}: ${wrong}`);
  }
  return found;
}

/** Whether an operation was under way that was refused later: until then it may have been done. */
function refusedAt(log: readonly LogEntry[], moment: number): boolean {
  return log.some(
    (entry, place) => entry.step === 'refused' && entry.begun < moment && place >= moment,
  );
}

/** Swaps of all kinds, many at once; now and then the disk is full. */
async function live(
  coordinator: Coordinator,
  story: Story,
  world: { random: Random; steps: number; now: () => number; inner: SimDisk },
): Promise<void> {
  const { random, steps, now, inner } = world;
  const answered = async () => {
    const { revision } = await coordinator.list('');
    story.answers.push({ at: now(), revision });
  };
  const watching = remember(coordinator, story);
  for (let step = 0; step < steps; step += 1) {
    if (random.below(12) === 0) inner.failNext(random.below(2) ? 'write' : 'zero', 'ERR_NO_SPACE');
    const several = Array.from({ length: 1 + random.below(4) }, async () => {
      try {
        await coordinator.swap(await someSwaps(coordinator, random));
        await answered();
      } catch (error) {
        if (!isFault(error, 'ERR_NO_SPACE')) throw error;
      }
    });
    await Promise.all(several);
  }
  await watching.stop(await coordinator.list(''));
}

async function someSwaps(coordinator: Coordinator, random: Random): Promise<Swap[]> {
  const keys = KEYS.filter(() => random.below(3) === 0);
  const swaps: Swap[] = [];
  for (const key of keys.length > 0 ? keys : ['a']) {
    const revision = (await coordinator.get(key))?.revision ?? 0n;
    // Some values fill several blocks, and some fill the log until it is rewritten.
    const length = [3, 300, 5000, 40_000][random.below(4)]!;
    const value = new Uint8Array(length).fill(1 + random.below(255));
    swaps.push(random.below(4) === 0 ? { key, revision } : { key, revision, value });
  }
  return swaps;
}

/** What the watch says was there at each revision: told by the coordinator, kept by the test. */
function remember(coordinator: Coordinator, story: Story) {
  const ending = new AbortController();
  const keys = new Map<string, Shown>();
  const task = (async () => {
    for await (const { key, value, revision } of coordinator.watch('', 0n, ending)) {
      if (value === undefined) keys.delete(key);
      else keys.set(key, shownKey(key, revision, value));
      story.states[Number(revision)] = [...keys.values()].sort().join(' ');
    }
  })();
  return {
    /** With what is there at the end: the watch may stop among the keys of its last revision. */
    stop: async ({ entries, revision }: Awaited<ReturnType<Coordinator['list']>>) => {
      while (story.states.length <= Number(revision)) await Promise.resolve();
      ending.abort();
      await task;
      story.states[Number(revision)] = shownOf(entries);
    },
  };
}

/** Opens what a cut has left, uses it, cuts the power again, and opens that. */
async function checkTwice(
  left: SimDisk,
  wrap: (disk: Disk) => Disk,
  story: Expected,
  answered: bigint,
  random: Random,
): Promise<string | undefined> {
  const first = await openAt(wrap(left));
  const wrong = await compare(first, story, answered);
  if (wrong !== undefined) return wrong;
  const opened = left.powerCut(random);
  const before = await first.list('');
  const reopened = await openAt(wrap(opened));
  if ((await reopened.list('')).revision !== before.revision) {
    return `revision ${before.revision} was shown, and was lost by the next cut`;
  }
  const key = 'after';
  await reopened.swap([{ key, revision: 0n, value: Uint8Array.of(1) }]);
  const last = await openAt(wrap(opened.powerCut(random)));
  return (await last.get(key)) === undefined ? 'a change after the recovery was lost' : undefined;
}

async function compare(
  coordinator: Coordinator,
  { states, unknown }: Expected,
  answered: bigint,
): Promise<string | undefined> {
  const { revision } = await coordinator.list('');
  if (revision < answered) return `revision ${answered} was answered, ${revision} is left`;
  const expected = states[Number(revision)];
  const shown = await shownBy(coordinator);
  if (unknown && revision > answered) return undefined;
  return shown === expected ? undefined : `at ${revision}: ${shown} instead of ${expected}`;
}

function openAt(disk: Disk): Promise<Coordinator> {
  const clusterId = new Uint8Array(16);
  return openLocalCoordinator({
    disk,
    directory: DIRECTORY,
    clusterId,
    create: true,
    log: silentLog,
  });
}

async function shownBy(coordinator: Coordinator): Promise<Shown> {
  return shownOf((await coordinator.list('')).entries);
}

function shownOf(entries: readonly Entry[]): Shown {
  return entries.map(({ key, revision, value }) => shownKey(key, revision, value)).join(' ');
}

function shownKey(key: string, revision: bigint, value: Uint8Array): string {
  const same = value.every((byte) => byte === value[0]);
  return `${key}@${revision}=${same ? `${value.length}x${value[0]}` : 'mixed'}`;
}
