import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { scratch } from '../cluster/scratch.ts';
import {
  blocks,
  CREATE,
  codeOf,
  contents,
  DIRECTORY,
  everything,
  failureOf,
  nameOf,
  openStore,
  overwrite,
  SimStore,
  values,
} from './store.ts';

const PATH = `${DIRECTORY}/store.json`;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

async function json(store: SimStore): Promise<Record<string, unknown>> {
  return JSON.parse(new TextDecoder().decode(await contents(store.disk, PATH)));
}

/** Opens the store with another store.json; what it fails with, after looking that nothing changed. */
async function openWith(text: string): Promise<unknown> {
  const store = await SimStore.open();
  await store.farm.write(nameOf(0), 0, blocks(1, 1), CREATE);
  await store.farm[Symbol.asyncDispose]();
  await overwrite(store.disk, PATH, new TextEncoder().encode(text));
  const before = await everything(store.disk, DIRECTORY);
  const failure = await failureOf(() => openStore(store.disk, DIRECTORY));
  expect(await everything(store.disk, DIRECTORY)).toEqual(before);
  return failure;
}

describe('who a store is', () => {
  test('is made with it, at random, and never changes', async () => {
    const store = await SimStore.open();
    const { identity } = store.farm;
    expect(identity).toEqual({
      formatVersion: 1,
      clusterId: expect.stringMatching(UUID),
      nodeId: expect.stringMatching(UUID),
    });
    expect(identity.clusterId).not.toBe(identity.nodeId);
    expect(await json(store)).toEqual(identity);
    expect((await store.powerCut()).identity).toEqual(identity);
    expect((await store.restart()).identity).toEqual(identity);
    expect((await SimStore.open()).farm.identity.nodeId).not.toBe(identity.nodeId);
  });

  test('is known to a store in a folder that does not exist yet, or is empty', async () => {
    await using folder = await scratch();
    for (const path of [`${folder.path}/made/by/it`, `${folder.path}/empty`]) {
      if (path.endsWith('empty')) await mkdir(path);
      await using farm = await openStore(nodeDisk(), path);
      expect(farm.identity.nodeId).toMatch(UUID);
    }
  });

  test.for([
    ['another version', { formatVersion: 2 }],
    ['a much newer one, with fields unknown today', { formatVersion: 77, cluster: { id: 1 } }],
  ] as const)('%s is refused with both versions, and nothing is touched', async ([, value]) => {
    expect(await openWith(JSON.stringify(value))).toMatchObject({
      code: 'ERR_VERSION',
      facts: { found: value.formatVersion, known: 1 },
      message: expect.stringMatching(`format ${value.formatVersion}\\b.*format 1\\b`),
    });
  });

  test.for([
    '',
    '{',
    'null',
    '[]',
    '"1"',
    '{}',
    '{"formatVersion":"1"}',
    '{"formatVersion":1}',
    '{"formatVersion":1,"clusterId":"x","nodeId":"y"}',
    '{"formatVersion":1,"clusterId":"0b9d3c1e-3f62-4a63-9c5e-0e2f3a7f6c11"}',
    '{"formatVersion":1,"clusterId":"0b9d3c1e-3f62-4a63-9c5e-0e2f3a7f6c11","nodeId":7}',
    '\0'.repeat(200),
  ])('a damaged store.json is refused by name, and nothing is touched: %j', async (text) => {
    expect(await openWith(text)).toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining(PATH),
    });
  });

  test('a folder that holds something else is refused, and nothing is put into it', async () => {
    const disk = new SimDisk({ directories: [DIRECTORY] });
    await overwrite(disk, `${DIRECTORY}/holiday.jpg`, blocks(1, 1));
    expect(await failureOf(() => openStore(disk, DIRECTORY))).toMatchObject({
      code: 'ERR_BAD_INPUT',
      message: expect.stringContaining('holiday.jpg'),
    });
    expect(await disk.list(DIRECTORY)).toEqual(['holiday.jpg']);
  });

  test('a new file system is as good as an empty folder', async () => {
    const disk = new SimDisk({ directories: [DIRECTORY, `${DIRECTORY}/lost+found`] });
    await using _farm = await openStore(disk, DIRECTORY);
  });

  test('a folder of nothing but snapshots of a cluster becomes a store, which can load them', async () => {
    const disk = new SimDisk({ directories: [DIRECTORY, `${DIRECTORY}/farm`] });
    await overwrite(disk, `${DIRECTORY}/farm/farm.json`, blocks(1, 1));
    await using _farm = await openStore(disk, DIRECTORY);
    expect(await disk.list(DIRECTORY)).toContain('store.json');
  });

  test('a store that lost its store.json is refused, and nothing is touched', async () => {
    const store = await SimStore.open();
    await store.farm[Symbol.asyncDispose]();
    await store.disk.remove(PATH);
    const before = await everything(store.disk, DIRECTORY);
    expect(await codeOf(() => openStore(store.disk, DIRECTORY))).toBe('ERR_BAD_INPUT');
    expect(await everything(store.disk, DIRECTORY)).toEqual(before);
  });

  test('a file in the place of the folder is refused', async () => {
    await using folder = await scratch();
    await writeFile(`${folder.path}/file`, 'text');
    expect(await codeOf(() => openStore(nodeDisk(), `${folder.path}/file`))).toMatch(
      /ERR_IO|ERR_EXISTS/,
    );
    expect(await readdir(folder.path)).toEqual(['file']);
  });
});

describe('two farms on one store', () => {
  test('the second is refused, the first goes on, and nothing was touched', async () => {
    const store = await SimStore.open();
    await store.farm.write(nameOf(0), 0, blocks(1, 1), CREATE);
    const before = await everything(store.disk, DIRECTORY);
    expect(await codeOf(() => openStore(store.disk, DIRECTORY))).toBe('ERR_BUSY');
    expect(await everything(store.disk, DIRECTORY)).toEqual(before);
    await store.farm.write(nameOf(0), 0, blocks(1, 2), CREATE);
    expect(await values(store.farm, nameOf(0), 1)).toBe('2');
    await store.farm[Symbol.asyncDispose]();
    await using next = await openStore(store.disk, DIRECTORY);
    expect(await values(next, nameOf(0), 1)).toBe('2');
  });

  test('on this machine too', async () => {
    await using folder = await scratch();
    await using _first = await openStore(nodeDisk(), folder.path);
    expect(await codeOf(() => openStore(nodeDisk(), folder.path))).toBe('ERR_BUSY');
  });

  test('a store that could not be opened is not left locked', async () => {
    const store = await SimStore.open();
    await store.farm[Symbol.asyncDispose]();
    const good = await contents(store.disk, PATH);
    await overwrite(store.disk, PATH, new Uint8Array(3));
    expect(await codeOf(() => openStore(store.disk, DIRECTORY))).toBe('ERR_CORRUPT');
    await overwrite(store.disk, PATH, good);
    await using _farm = await openStore(store.disk, DIRECTORY);
  });

  test('disposing twice closes once', async () => {
    const store = await SimStore.open();
    await Promise.all([store.farm[Symbol.asyncDispose](), store.farm[Symbol.asyncDispose]()]);
    await using _next = await openStore(store.disk, DIRECTORY);
  });
});
