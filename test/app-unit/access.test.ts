import { beforeAll, describe, expect, test } from 'vitest';
import { Access } from '../../src/app/access.ts';
import { Volumes } from '../../src/app/volumes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Client } from '../../src/contracts/exports.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import { scratch } from '../cluster/scratch.ts';
import type { LogEvent } from './test-sheep.ts';
import { openTestStore } from './test-store.ts';

const local: Client = { name: '127.0.0.1:1', transport: 'tcp', address: '127.0.0.1' };
const near: Client = { name: '10.0.0.7:1', transport: 'tcp', address: '10.0.0.7' };
const foreign: Client = { name: '192.0.2.1:1', transport: 'tcp', address: '192.0.2.1' };

/** A coordinator that counts what is looked up, and time that passes with it. */
function counted(inner: Coordinator) {
  const state = { gets: [] as string[], nowMs: 0, costMs: () => 0 };
  const coordinator: Coordinator = {
    get: (key, call) => {
      state.gets.push(key.replace(/[^/]*$/, ''));
      state.nowMs += state.costMs();
      return inner.get(key, call);
    },
    list: (prefix, call) => inner.list(prefix, call),
    swap: (swaps, call) => inner.swap(swaps, call),
    watch: (prefix, after, call) => inner.watch(prefix, after, call),
    lease: (key, value, ttlMs, call) => inner.lease(key, value, ttlMs, call),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
  const clock: Clock = {
    wallMs: () => state.nowMs,
    monotonicMs: () => state.nowMs,
    sleep: async (delayMs) => {
      state.nowMs += delayMs;
    },
    yield: async () => undefined,
  };
  return { state, coordinator, clock };
}

async function world({ networkTrusted = false } = {}) {
  const owned = new AsyncDisposableStack();
  const [store, other] = [owned.use(await scratch()), owned.use(await scratch())];
  const { farm } = owned.use(await openTestStore(store.path));
  const events: LogEvent[] = [];
  const log = {
    event: (level: LogEvent['level'], name: string, facts = {}) => {
      events.push({ level, name, facts });
    },
  };
  const inner = owned.use(
    await openLocalCoordinator({
      ...{ disk: nodeDisk(), directory: other.path, clusterId: new Uint8Array(16) },
      ...{ create: true, log },
    }),
  );
  const { state, coordinator, clock } = counted(inner);
  const directory = new VdiDirectory(coordinator, clock);
  const volumes = owned.use(new Volumes(directory, farm, log));
  const parts = { volumes, directory, clock, log };
  const access = new Access({ ...parts, circumstances: { networkTrusted } });
  const make = (name: string, ...allow: string[]) =>
    volumes.create({
      ...{ name, sizeBytes: 8 * MiB, objectBytes: MiB },
      ...(allow.length > 0 && { allow }),
    });
  const named = (name: string) => events.filter((event) => event.name === name);
  return {
    ...{ access, volumes, directory, inner, state, make, named },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type World = Awaited<ReturnType<typeof world>>;

/** A connection as the NBD server has one: told to end, it lets go of its export. */
async function connect(it: World, name: string, client: Client = local) {
  const state = { ended: false };
  const ended = Promise.withResolvers<void>();
  const device = await it.access.open(name, {
    ...client,
    disconnect: () => {
      state.ended = true;
      void ended.promise.then(() => device?.[Symbol.asyncDispose]());
    },
  });
  return { device, state, letGo: () => ended.resolve() };
}

describe('an export that its rules keep from a client', () => {
  let it: World;
  beforeAll(async () => {
    it = await world();
    await it.make('open');
    await it.make('shut', 'cidr:10.0.0.0/8');
    await it.volumes.snapshot('shut', 'monday');
    return () => it[Symbol.asyncDispose]();
  });

  test('is listed, described and opened for those whom they let in, and for nobody else', async () => {
    const names = async (client: Client) => (await it.access.list(client)).map(({ name }) => name);
    expect(await names(local)).toEqual(['open']);
    expect(await names(near)).toEqual(['shut', 'shut@monday']);
    expect(await names(foreign)).toEqual([]);
    for (const name of ['shut', 'shut@monday', 'shut@2', 'shut@7']) {
      expect(await it.access.info(name, local)).toBeUndefined();
      expect(await it.access.open(name, local)).toBeUndefined();
    }
    for (const name of ['shut', 'shut@monday', 'shut@2']) {
      expect(await it.access.info(name, near)).toBeDefined();
      const device = await it.access.open(name, near);
      expect(device).toBeDefined();
      await device?.[Symbol.asyncDispose]();
    }
  });

  test.for([
    ['shut', 'none'],
    ['shut@monday', 'none@monday'],
    ['shut@monday', 'shut@tuesday'],
    ['shut@2', 'none@2'],
    ['shut@2', 'shut@1'],
    ['shut@2', 'shut@7'],
    ['shut@2', 'shut@99999999999'],
  ])('%s is looked up as %s is, which does not exist', async ([forbidden, unknown]) => {
    for (const ask of ['info', 'open'] as const) {
      it.state.gets = [];
      expect(await it.access[ask](forbidden!, local)).toBeUndefined();
      const looked = it.state.gets;
      it.state.gets = [];
      expect(await it.access[ask](unknown!, local)).toBeUndefined();
      expect(it.state.gets).toEqual(looked);
      expect(looked.length).toBeGreaterThan(0);
    }
  });

  test('is refused in the same moment as one that does not exist, however long it was looked for', async () => {
    for (const name of ['shut', 'none', 'shut@monday', 'none@monday', 'no name', '']) {
      for (const costMs of [0, 0.3, 2]) {
        it.state.costMs = () => costMs;
        const askedMs = it.state.nowMs;
        expect(await it.access.info(name, local)).toBeUndefined();
        expect(it.state.nowMs - askedMs).toBeCloseTo(10, 6);
      }
    }
  });

  test('is told in the log, once for a connection, with what would have let it in', async () => {
    const client = { ...foreign, proof: { kind: 'psk', user: 'alice' } as const };
    const before = it.named('nbd.export-forbidden').length;
    await it.access.info('shut', client);
    await it.access.open('shut', client);
    await it.access.info('none', client);
    expect(it.named('nbd.export-forbidden').slice(before)).toEqual([
      {
        level: 'warn',
        name: 'nbd.export-forbidden',
        facts: {
          ...{ client: '192.0.2.1:1', proof: 'psk:alice' },
          ...{ vdi: 'shut', allow: 'cidr:10.0.0.0/8' },
        },
      },
    ]);
    await it.access.info('shut', { ...client });
    expect(it.named('nbd.export-forbidden')).toHaveLength(before + 2);
  });

  test('does not fill the log, however often it is asked for', async () => {
    it.state.nowMs += 60_000;
    const before = it.named('nbd.export-forbidden').length;
    for (let client = 0; client < 50; client += 1) await it.access.info('shut', { ...foreign });
    expect(it.named('nbd.export-forbidden')).toHaveLength(before + 10);
    it.state.nowMs += 60_000;
    await it.access.info('shut', { ...foreign });
    expect(it.named('nbd.export-forbidden').at(-1)?.facts).toMatchObject({ unsaid: 40 });
  });

  test('is kept from everybody if its record is damaged, and the log says which', async () => {
    const key = 'vdi/records/00000001';
    const { revision } = (await it.inner.get(key))!;
    await it.inner.swap([{ key, revision, value: new TextEncoder().encode('{}') }]);
    expect(await it.access.info('open', local)).toBeUndefined();
    expect(it.named('nbd.export-forbidden').at(-1)?.facts).toMatchObject({
      vdi: 'open',
      cause: expect.stringContaining(key),
    });
  });
});

test('where the network is trusted the default lets everybody in, and a list stays what it is', async () => {
  await using it = await world({ networkTrusted: true });
  await it.make('open');
  await it.make('shut', 'cidr:10.0.0.0/8');
  expect((await it.access.list(foreign)).map(({ name }) => name)).toEqual(['open']);
  expect(await it.access.info('shut', foreign)).toBeUndefined();
});

describe('changing who may attach', () => {
  test('disconnects those who may not any more, and settles when they have let go', async () => {
    await using it = await world();
    await it.make('demo', 'cidr:127.0.0.0/8', 'cidr:10.0.0.0/8');
    await it.volumes.snapshot('demo', 'monday');
    const kept = await connect(it, 'demo', near);
    const out = [await connect(it, 'demo'), await connect(it, 'demo@monday')];
    let settled = false;
    const changing = it.access.change('demo', ['cidr:10.0.0.0/8'], { dryRun: false });
    void changing.then(() => {
      settled = true;
    });
    await expect.poll(() => out.map(({ state }) => state.ended)).toEqual([true, true]);
    await new Promise((turn) => setImmediate(turn));
    expect(settled).toBe(false);
    for (const { letGo } of out) letGo();
    const { record, shutOut } = await changing;
    expect(record.allow).toEqual(['cidr:10.0.0.0/8']);
    expect(shutOut.map((use) => use.exportName).sort()).toEqual(['demo', 'demo@monday']);
    expect(it.volumes.clients('demo')).toHaveLength(1);
    expect(it.volumes.clients('demo@monday')).toEqual([]);
    expect(kept.state.ended).toBe(false);
    expect(it.named('nbd.shut-out').map(({ facts }) => facts)).toEqual([
      { client: '127.0.0.1:1', vdi: 'demo' },
      { client: '127.0.0.1:1', vdi: 'demo@monday' },
    ]);
    expect(it.named('vdi.access-changed')[0]?.facts).toEqual({
      vdi: 'demo',
      allow: 'cidr:10.0.0.0/8',
    });
    await kept.device?.[Symbol.asyncDispose]();
  });

  test('tells with dryRun whom that would be, and does nothing', async () => {
    await using it = await world();
    await it.make('demo');
    const { device, state } = await connect(it, 'demo');
    const { record, shutOut } = await it.access.change('demo', ['unix'], { dryRun: true });
    expect(record.allow).toEqual(['unix']);
    expect(shutOut.map(({ client }) => client.name)).toEqual(['127.0.0.1:1']);
    expect(state.ended).toBe(false);
    expect((await it.directory.info('demo')).allow).toEqual(['default']);
    expect(it.named('vdi.access-changed')).toEqual([]);
    await device?.[Symbol.asyncDispose]();
  });

  test('leaves alone what is no connection: a check goes on', async () => {
    await using it = await world();
    await it.make('demo');
    const reader = await it.volumes.open('demo', { name: 'collie vdi check', transport: 'unix' });
    const { shutOut } = await it.access.change('demo', ['psk:alice'], { dryRun: false });
    expect(shutOut).toEqual([]);
    await reader?.[Symbol.asyncDispose]();
  });

  test('meets also who was being let in at that moment', async () => {
    await using it = await world();
    await it.make('demo');
    // Once as each look-up of an attachment is begun, so in every gap between its steps.
    for (let step = 1; ; step += 1) {
      await it.directory.allow('demo', ['default']);
      let [left, changing] = [step, Promise.resolve<unknown>(undefined)];
      it.state.costMs = () => {
        left -= 1;
        if (left === 0) changing = it.access.change('demo', ['unix'], { dryRun: false });
        return 0;
      };
      const ended = Promise.withResolvers<void>();
      const client = { ...local, disconnect: () => ended.resolve() };
      const device = await it.access.open('demo', client);
      it.state.costMs = () => 0;
      if (left > 0) {
        expect(step).toBeGreaterThan(6);
        await device?.[Symbol.asyncDispose]();
        break;
      }
      if (device !== undefined) {
        await ended.promise;
        await device[Symbol.asyncDispose]();
      }
      await changing;
      expect(it.volumes.clients('demo')).toEqual([]);
    }
  });

  test.for([
    [[], /give 1 to 64 access rules/],
    [['unix', 'cidr:10.0.0.1/8'], /cidr:10\.0\.0\.0\/8/],
  ] as const)('to %j is refused, and nothing changes', async ([rules, message]) => {
    await using it = await world();
    await it.make('demo');
    for (const dryRun of [true, false]) {
      await expect(it.access.change('demo', rules, { dryRun })).rejects.toMatchObject({
        code: 'ERR_BAD_INPUT',
        message: expect.stringMatching(message),
      });
    }
    expect((await it.directory.info('demo')).allow).toEqual(['default']);
  });
});

test('a disk that was opened goes back if its rules cannot be looked at again', async () => {
  let looks = 0;
  let disposed = 0;
  const device = {
    [Symbol.asyncDispose]: async () => {
      disposed += 1;
    },
  } as unknown as BlockDevice;
  const access = new Access({
    ...{ log: { event: () => undefined }, circumstances: { networkTrusted: false } },
    clock: nodeClock(),
    directory: {
      rulesFor: async () => {
        looks += 1;
        if (looks === 2) throw new SheepError('ERR_IO', 'the coordinator does not answer');
        return ['default'];
      },
    } as unknown as VdiDirectory,
    volumes: { open: async () => device } as unknown as Volumes,
  });
  await expect(access.open('demo', local)).rejects.toThrow('does not answer');
  expect(disposed).toBe(1);
});
