import { expect, test } from 'vitest';
import type { ObjectName } from '../../src/base/ids.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import { checkStore } from '../../src/farm/snapshots/check.ts';
import { collect, planCollection } from '../../src/farm/snapshots/collect.ts';
import { keepStale, releaseStale } from '../../src/farm/snapshots/stale-objects.ts';
import { openStale } from '../../src/farm/snapshots/stale-snap.ts';
import type { SnapshotStore } from '../../src/farm/snapshots/store.ts';
import { beginWriting, type StoreWriter } from '../../src/farm/snapshots/writer.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { all } from '../farm/snapshots/backups.ts';
import {
  bytesOfMade,
  Cluster,
  keeping,
  key,
  type Made,
  object,
} from '../farm/snapshots/stale-world.ts';
import { openStore, SHAPE, SMALL } from '../farm/snapshots/store-world.ts';
import { stopAfterEachStep, WAYS } from './steps.ts';

const NOW = { graceMs: 0 };

/** Objects as of epochs, `epoch/kind/vid/index`, each with its bytes. */
type State = ReadonlyMap<string, Uint8Array>;

interface Step {
  readonly title: string;
  readonly act: (writer: StoreWriter) => Promise<unknown>;
  readonly done: (before: State) => State;
}

const made = (vid: number, index: number, seed: number) =>
  object(vid, index, { seed, bytes: 8192 });
const old = [made(7, 1, 1), made(7, 2, 2), made(8, 1, 3)];
const changed = [old[0]!, { ...old[1]!, seed: 4 }, made(9, 5, 5)];
const again = [{ ...changed[2]!, seed: 6 }];

function keep(epoch: number, left: readonly Made[]): Step {
  return {
    title: `keeping what epoch ${epoch} left behind`,
    act: (writer) => keepStale(writer, keeping(epoch, left)),
    done: (before) =>
      new Map([
        ...before,
        ...left.map((each) => [`${epoch}/${key(each.name)}`, bytesOfMade(each)] as const),
      ]),
  };
}

const [seven1, seven2, eight] = old.map(({ name }) => name) as [ObjectName, ObjectName, ObjectName];
const nine = changed[2]!.name;
/** Of epoch 3 two of three objects may go, of epoch 5 one snap in part and the other one whole. */
const facts = new Cluster().clean(5, seven1, eight, nine).clean(3, seven2);
for (const name of [seven1, seven2, nine]) {
  facts.holds(name, { stamp: { epoch: 9, attachEpoch: 1 } });
}
const STAYS = [`3/${key(eight)}`, `5/${key(seven2)}`];

const LIFE: readonly Step[] = [
  keep(3, old),
  keep(5, changed),
  keep(5, again),
  {
    title: 'releasing',
    act: (writer) => releaseStale(writer, facts),
    done: (before) => new Map([...before].filter(([place]) => STAYS.includes(place))),
  },
  {
    title: 'a collection',
    act: (writer) => collect(writer, NOW),
    done: (before) => before,
  },
  keep(6, old),
];

const create = { ...SHAPE, codec: 'none' } as const;
const open = (disk: Disk) => openStore({ disk, create, limits: { ...SMALL, smallPacksMax: 1 } });

async function writing(store: SnapshotStore, act: Step['act']): Promise<void> {
  await using writer = await beginWriting(store);
  await act(writer);
}

/** All that is there, the last of what an epoch holds of an object. */
async function stateOf(store: SnapshotStore): Promise<State> {
  const state = new Map<string, Uint8Array>();
  for (const entry of store.snaps('sys')) {
    const snap = await openStale(store, entry);
    for (const each of snap.objects) {
      state.set(`${entry.epoch}/${key(each.name)}`, await snap.read(each));
    }
  }
  return state;
}

const equal = (one: Uint8Array | undefined, other: Uint8Array | undefined) =>
  one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;

/** What is wrong with a state between these two, both included. */
function wrongIn(state: State, before: State, after: State): string | undefined {
  for (const [place, bytes] of state) {
    if (equal(bytes, before.get(place)) || equal(bytes, after.get(place))) continue;
    return `${place} is not what was kept`;
  }
  const lost = [...before.keys()].find((place) => after.has(place) && !state.has(place));
  return lost === undefined ? undefined : `${lost} is lost`;
}

async function judge(
  disk: SimDisk,
  step: Step,
  { before, after }: { before: State; after: State },
): Promise<string | undefined> {
  {
    await using store = await open(disk);
    const wrong = wrongIn(await stateOf(store), before, after);
    if (wrong !== undefined) return wrong;
    const findings = await all(checkStore(store));
    if (findings.length > 0) return findings.map(({ message }) => message).join('; ');
    await writing(store, step.act);
  }
  // What it went on with may have been of a process that was killed before it synced.
  await using store = await open(disk.powerCut('nothing'));
  const wrong = wrongIn(await stateOf(store), after, after);
  if (wrong !== undefined) return `done again: ${wrong}`;
  await writing(store, (writer) => collect(writer, NOW));
  const { freedBytes } = await planCollection(store, NOW);
  if (freedBytes > 0) return `a collection left ${freedBytes} bytes`;
  return wrongIn(await stateOf(store), after, after);
}

test('what epochs left behind is kept, released and collected, stopped at any moment', async () => {
  const start = new SimDisk({ directories: ['/backups'] });
  const recording = new RecordingDisk(start.kill(), start);
  {
    await using _made = await open(recording);
  }
  let before: State = new Map();
  let [from, stops] = [recording.log.length, 0];
  for (const step of LIFE) {
    {
      await using store = await open(recording);
      await writing(store, step.act);
      expect(await stateOf(store)).toEqual(step.done(before));
    }
    const after = step.done(before);
    const walked = await stopAfterEachStep(
      { recording, from, ways: WAYS, stride: 2 },
      async (left, { answered }) => {
        // What was answered is there, and stays.
        const wrong = await judge(left, step, { before: answered ? after : before, after });
        return wrong === undefined ? [] : [`${step.title}: ${wrong}`];
      },
    );
    expect(walked.found).toEqual([]);
    stops += walked.stops;
    [before, from] = [after, recording.log.length];
  }
  expect([...before.keys()].filter((place) => !place.startsWith('6'))).toEqual(STAYS);
  expect(stops).toBeGreaterThan(400);
});
