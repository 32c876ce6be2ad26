import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { GiB, MiB } from '../../src/base/units.ts';
import { openLocalCoordinator } from '../../src/cluster/local-coordinator.ts';
import type { Coordinator } from '../../src/contracts/coordinator.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { VdiDirectory } from '../../src/vdi/directory.ts';
import { exportName } from '../../src/vdi/record.ts';
import { scratch } from '../cluster/scratch.ts';

const clock: Clock = {
  wallMs: () => 1234.5,
  monotonicMs: () => 0,
  sleep: async () => undefined,
  yield: async () => undefined,
};
const nothing = async () => undefined;

async function fresh() {
  const owned = new AsyncDisposableStack();
  const store = owned.use(await scratch());
  const coordinator: Coordinator = owned.use(
    await openLocalCoordinator({
      ...{ disk: nodeDisk(), directory: store.path, clusterId: new Uint8Array(16) },
      ...{ create: true, log: silentLog },
    }),
  );
  const directory = new VdiDirectory(coordinator, clock);
  return {
    ...{ directory, coordinator },
    create: (name: string, allow?: readonly string[]) =>
      directory.create(
        { name, sizeBytes: GiB, objectBytes: 4 * MiB, ...(allow && { allow }) },
        nothing,
      ),
    snapshot: (name: string, tag: string) =>
      directory.snapshot(name, tag, async (_child, commit) => void (await commit())),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

test('a VDI begins with the default, or with the rules that it was made with', async () => {
  await using it = await fresh();
  expect((await it.create('one')).allow).toEqual(['default']);
  expect((await it.create('two', ['cidr:10.0.0.1', 'unix'])).allow).toEqual([
    'cidr:10.0.0.1/32',
    'unix',
  ]);
  await expect(it.create('three', ['nobody'])).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
  expect(await it.directory.find('three')).toBeUndefined();
});

test('rules are found by every name of an export, and for none that is not there', async () => {
  await using it = await fresh();
  await it.create('demo', ['unix']);
  await it.snapshot('demo', 'monday');
  for (const name of ['demo', 'demo@monday', 'demo@1']) {
    expect(await it.directory.rulesFor(name)).toEqual(['unix']);
  }
  for (const name of ['other', 'demo@tuesday', 'demo@2', 'demo@0', 'other@monday', 'other@1']) {
    expect(await it.directory.rulesFor(name)).toBeUndefined();
  }
  await expect(it.directory.rulesFor('de mo')).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
  const served = (await it.directory.served()).map((record) => [exportName(record), record.allow]);
  expect(served).toEqual([
    ['demo', ['unix']],
    ['demo@monday', ['unix']],
  ]);
});

test('snapshots follow their VDI, also those that were taken before its rules changed', async () => {
  await using it = await fresh();
  await it.create('demo');
  const monday = await it.snapshot('demo', 'monday');
  expect((await it.directory.allow('demo', ['psk:alice'])).allow).toEqual(['psk:alice']);
  expect(await it.directory.rulesFor('demo@monday')).toEqual(['psk:alice']);
  expect(await it.directory.rulesOf(monday)).toEqual(['psk:alice']);
  await it.snapshot('demo', 'tuesday');
  expect((await it.directory.info('demo')).allow).toEqual(['psk:alice']);
  expect((await it.directory.served()).map(({ allow }) => allow)).toEqual([
    ['psk:alice'],
    ['psk:alice'],
    ['psk:alice'],
  ]);
});

test('a VDI that is deleted leaves its rules to its snapshots: none of them opens by that', async () => {
  await using it = await fresh();
  await it.create('demo');
  await it.snapshot('demo', 'monday');
  await it.snapshot('demo', 'tuesday');
  await it.directory.allow('demo', ['psk:alice']);
  await it.directory.delete('demo');
  for (const name of ['demo@monday', 'demo@tuesday']) {
    expect(await it.directory.rulesFor(name)).toEqual(['psk:alice']);
  }
  const { record } = await it.directory.rollback('demo', 'monday', nothing);
  expect(record.allow).toEqual(['psk:alice']);
});

test('rules that change while a VDI is being deleted are those that its snapshots get', async () => {
  await using it = await fresh();
  await it.create('demo');
  await it.snapshot('demo', 'monday');
  await it.directory.allow('demo', ['psk:alice']);
  const [, changed] = await Promise.allSettled([
    it.directory.delete('demo'),
    it.directory.allow('demo', ['unix']),
  ]);
  const last = changed.status === 'fulfilled' ? ['unix'] : ['psk:alice'];
  expect(await it.directory.rulesFor('demo@monday')).toEqual(last);
});

test('a rollback brings back data, and not who might attach it then', async () => {
  await using it = await fresh();
  await it.create('demo');
  await it.snapshot('demo', 'monday');
  await it.directory.allow('demo', ['psk:alice']);
  const { record } = await it.directory.rollback('demo', 'monday', nothing);
  expect(record.allow).toEqual(['psk:alice']);
});

test('a clone begins with the rules that count for its snapshot, and goes its own way', async () => {
  await using it = await fresh();
  await it.create('demo');
  await it.snapshot('demo', 'monday');
  await it.directory.allow('demo', ['psk:alice']);
  const source = { name: 'demo', snapshot: 'monday' };
  expect((await it.directory.clone(source, 'copy', nothing)).allow).toEqual(['psk:alice']);
  await it.directory.allow('demo', ['unix']);
  expect(await it.directory.rulesFor('copy')).toEqual(['psk:alice']);
});

test('rules are changed beside other changes of the same record, and none is lost', async () => {
  await using it = await fresh();
  await it.create('demo');
  await Promise.all([
    it.directory.allow('demo', ['unix']),
    it.directory.attach('demo'),
    it.directory.resize('demo', 2 * GiB),
    it.snapshot('demo', 'monday'),
  ]);
  expect(await it.directory.info('demo')).toMatchObject({ allow: ['unix'], sizeBytes: 2 * GiB });
  await expect(it.directory.allow('none', ['unix'])).rejects.toMatchObject({
    code: 'ERR_NOT_FOUND',
  });
});
