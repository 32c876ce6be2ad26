import { expect, test } from 'vitest';
import { Access } from '../../src/app/access.ts';
import { type LoadCall, loadSnapshot } from '../../src/app/cluster-snapshots/load.ts';
import type { LoadOptions } from '../../src/app/cluster-snapshots/load-plan.ts';
import { SheepError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { KEYS } from '../../src/vdi/catalog.ts';
import { ManualClock } from '../nbd/manual-clock.ts';
import { failingCoordinator, type Swaps } from '../vdi/failing-coordinator.ts';
import { create, FamilyModel, write } from '../vdi/family-model.ts';
import { CLIENT, leaks, OBJECT_BLOCKS, STORE } from '../vdi/family-world.ts';
import { saveNow } from './cluster-saves.ts';
import { family, openCluster, tickingClock } from './cluster-world.ts';
import type { LogEvent } from './test-sheep.ts';

/**
 * A load that is decided while the disk is full behind it: what was loaded has not got its names.
 * Nobody may use a name of it meanwhile, or what he writes would be gone when it has.
 */

const REPLACE: LoadOptions = { vdi: 'base', replace: true };
/** What the naming waits before it is tried again. */
const RETRY_MS = 1000;

/** A saved family, of which base was spoilt and saved again; a load of base is decided, and cannot be named. */
async function heldUp(call: LoadCall = {}) {
  const disk = new SimDisk({ directories: [STORE] });
  const time = new ManualClock();
  const clock = {
    ...tickingClock(),
    monotonicMs: () => time.monotonicMs(),
    sleep: time.sleep.bind(time),
    yield: () => time.yield(),
  };
  let swaps: Swaps | undefined;
  const world = await openCluster(disk, {
    clock,
    wrapCoordinator: (inner) => {
      const failing = failingCoordinator(inner);
      swaps = failing.swaps;
      return failing.coordinator;
    },
  });
  const model = new FamilyModel();
  await family(world, model);
  const { snap } = await saveNow(world, 'mon');
  const saved = model.copy();
  await write(world, model, 'base', { first: 0, count: OBJECT_BLOCKS, value: 66 });
  await create(world, saved, 'other', 9);
  await saveNow(world, 'tue');
  await world.leaveAll();
  const events: LogEvent[] = [];
  const full = Promise.withResolvers<void>();
  const log = {
    event: (level: LogEvent['level'], name: string, facts = {}) => {
      events.push({ level, name, facts });
      if (name === 'cluster.load-not-named') full.resolve();
    },
  };
  swaps!.lastKey = KEYS.arriving;
  const old = await world.directory.info('base');
  const loading = loadSnapshot({ ...world.parts, log }, snap, REPLACE, call, () => undefined);
  loading.catch(() => undefined);
  await Promise.race([full.promise, loading]);
  expect(await world.directory.arriving()).toBeDefined();
  const room = async () => {
    swaps!.left = Number.POSITIVE_INFINITY;
    await time.pass(RETRY_MS);
  };
  return { disk, world, clock, time, events, loading, saved, old, room };
}

/** Whether it has settled when a minute is over. */
async function waits(time: ManualClock, work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  work.then(settle, settle);
  await time.pass(60_000, RETRY_MS);
  return !settled;
}

/** All is as the model has it after a start, which needs no other; and nothing is left over. */
async function expectAfterStart(disk: SimDisk, model: FamilyModel): Promise<void> {
  const cut = disk.powerCut('nothing');
  disk.halt();
  const next = await openCluster(cut);
  expect(await next.directory.arriving()).toBeUndefined();
  expect(await model.compare(next)).toEqual([]);
  await next.settle();
  expect(await leaks(cut, next)).toEqual([]);
}

test('a client that comes before what was loaded has its name waits, and gets that', async () => {
  const { disk, world, time, loading, saved, old, room } = await heldUp();
  const opening = world.volumes.open('base', CLIENT);
  expect(await waits(time, opening)).toBe(true);
  expect((await world.directory.info('base')).vid).toBe(old.vid);
  const spoilt = (await world.directory.ancestors(old))[0];
  expect(spoilt?.state).toBe('held');
  await room();
  expect((await loading).replaced).toMatchObject([{ export: 'base' }]);
  const { vid } = await world.directory.info('base');
  expect(vid).toBeGreaterThan(old.vid);
  expect((await world.directory.read(spoilt!.vid))?.record.state).toBe('released');
  await (await opening)?.[Symbol.asyncDispose]();
  await write(world, saved, 'base', { first: 1, count: 1, value: 77 }); // and what he writes stays
  await (await world.device('base')).flush();
  await expectAfterStart(disk, saved);
});

/** What somebody wants to do with base, and how the record shows it then. */
type World = Awaited<ReturnType<typeof heldUp>>;
const CHANGES: readonly (readonly [string, (it: World) => Promise<unknown>, object])[] = [
  [
    'is deleted',
    ({ world }) => world.volumes.delete('base', { dryRun: false }),
    { state: 'deleting' },
  ],
  [
    'gets a snapshot',
    ({ world }) => world.volumes.snapshot('base', 'late'),
    { state: 'snapshot', tag: 'late' },
  ],
  [
    'gets another size',
    ({ world }) => world.volumes.resize('base', 4 * MiB, { dryRun: false }),
    { state: 'ready', sizeBytes: 4 * MiB },
  ],
  ['is rolled back', ({ world }) => world.volumes.rollback('base', 'one'), { state: 'deleting' }],
  [
    'gets other rules',
    ({ world: { volumes, directory }, clock }) => {
      const parts = { volumes, directory, clock, log: silentLog };
      const access = new Access({ ...parts, circumstances: { networkTrusted: false } });
      return access.change('base', ['psk:late'], { dryRun: false });
    },
    { state: 'ready', allow: ['psk:late'] },
  ],
];

test.for(CHANGES)('whoever wants that it %s waits, and changes what was loaded', async (row) => {
  const [, change, shown] = row;
  const it = await heldUp();
  const { directory, volumes } = it.world;
  const [loaded] = (await directory.arriving())!.vids;
  const changing = change(it);
  expect(await waits(it.time, changing)).toBe(true);
  await (await volumes.open('c1@two', CLIENT))?.[Symbol.asyncDispose](); // others need not wait
  await it.room();
  await it.loading;
  await changing;
  expect((await directory.read(loaded!))?.record).toMatchObject({ name: 'base', ...shown });
  const old = (await directory.read(it.old.vid))?.record;
  expect(old).toMatchObject({ ...it.old, state: 'deleting' });
});

test('once it is decided, whoever asked for it may leave', async () => {
  const left = new AbortController();
  const it = await heldUp(left);
  left.abort(new SheepError('ERR_SHUTDOWN', 'gone'));
  expect(await waits(it.time, it.loading)).toBe(true);
  await it.room();
  await it.loading;
  await it.world.stop();
  await expectAfterStart(it.disk, it.saved);
});

test('the log tells of it once, and seldom after that; health until it is over', async () => {
  const causes: unknown[] = [];
  const { time, events, loading, room } = await heldUp({ heldUp: (cause) => causes.push(cause) });
  await time.pass(100 * RETRY_MS, RETRY_MS);
  expect(causes.at(-1)).toMatchObject({ code: 'ERR_NO_SPACE' });
  await room();
  await loading;
  expect(causes.at(-1)).toBeUndefined();
  const told = events.filter(({ name }) => name === 'cluster.load-not-named');
  expect(told.map(({ facts }) => facts['times'])).toEqual([1, 2, 4, 8, 16, 32, 64]);
  expect(told[0]).toMatchObject({ level: 'error', facts: { cause: 'the disk is full' } });
});

test('a stop lets nobody at what has no name yet, and the next start names it', async () => {
  const stop = new AbortController();
  const { disk, world, saved, loading } = await heldUp({ stopping: stop.signal });
  const waiting = world.volumes.open('base', CLIENT);
  stop.abort(new SheepError('ERR_SHUTDOWN', 'sheep is stopping'));
  const refusal = {
    code: 'ERR_SHUTDOWN',
    message: expect.stringMatching(/^sheep is stopping; .* gets its names with the next start$/),
  };
  await expect(loading).rejects.toMatchObject(refusal);
  await expect(waiting).rejects.toMatchObject(refusal);
  await expect(world.volumes.open('base', CLIENT)).rejects.toMatchObject(refusal);
  const deleting = world.volumes.delete('base', { dryRun: false });
  await expect(deleting).rejects.toMatchObject(refusal);
  await (await world.volumes.open('c1@two', CLIENT))?.[Symbol.asyncDispose](); // others go on
  await world.stop();
  await expectAfterStart(disk, saved);
});
